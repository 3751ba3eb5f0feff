{{/* Labels of an object that the release owns. Call with (list . "component"). */}}
{{- define "slmfleet.labels" -}}
{{- $root := index . 0 -}}
{{ include "slmfleet.selector" . }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* What tells our pods from others', and from one another. The operator puts the same labels on what it makes. */}}
{{- define "slmfleet.selector" -}}
app.kubernetes.io/name: slmfleet
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Pod Security `restricted`, and one user for everything that touches the store. */}}
{{- define "slmfleet.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "slmfleet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Egress to DNS. */}}
{{- define "slmfleet.dns" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{/* Egress to the API server, which no label selects. */}}
{{- define "slmfleet.apiServer" -}}
- ports:
    {{- range .Values.networkPolicy.apiServerPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
