"""`slmfleet crds`: the CustomResourceDefinitions as files, and the chart's copy of them as templates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from slmfleet.api.crd import all_crds
from slmfleet.cli.paths import Named, refuse_overwriting
from slmfleet.cli.problem import fail

_HEADER = "# Made by `make crds` from operator/slmfleet/api. Change it there.\n"
_KEEP = {"helm.sh/resource-policy": "keep"}


def crds(
    out: Annotated[Path, typer.Option("--out", help="Folder for the CRDs, one file a kind.")],
    chart: Annotated[
        Path | None, typer.Option("--chart", help="Folder for the same CRDs as Helm templates (`crds.install`).")
    ] = None,
) -> None:
    """Write the CustomResourceDefinitions of the four kinds."""
    names = tuple(plain())
    refuse_overwriting([], [Named("--out", out, names), Named("--chart", chart, names)])
    try:
        write(out, plain())
        typer.echo(f"{len(plain())} CustomResourceDefinitions in {out}")
        if chart is not None:
            write(chart, templates())
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}; choose another folder")


def plain() -> dict[str, str]:
    """File name to YAML, for `kubectl apply --server-side -f`."""
    return {name: _HEADER + _yaml(manifest) for name, manifest in all_crds().items()}


def templates() -> dict[str, str]:
    """The same as Helm templates: behind a switch, and kept when the release goes, since data hangs on them."""
    return {name: _template(manifest) for name, manifest in all_crds().items()}


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _template(manifest: dict[str, Any]) -> str:
    kept = {**manifest, "metadata": {**manifest["metadata"], "annotations": _KEEP}}
    body = _yaml(kept)
    if "{{" in body:
        raise ValueError(f"{manifest['metadata']['name']} has '{{{{' in it, which Helm would read as a template")
    return f"{_HEADER}{{{{- if .Values.crds.install }}}}\n{body}{{{{- end }}}}\n"


class _Dumper(yaml.SafeDumper):
    """Quotes what other readers take for a truth value: kubectl and Helm read a bare `n` as false, PyYAML as a word."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if text in {"y", "Y", "n", "N"} else None)


_Dumper.add_representer(str, _text)


def _yaml(manifest: dict[str, Any]) -> str:
    text: str = yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
