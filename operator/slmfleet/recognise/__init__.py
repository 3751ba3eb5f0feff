"""How a call's task is recognised: the part that the gateway (on every request) and discovery share.

numpy and the standard library only. Nothing here reads a log, trains or knows Kubernetes; `Classifier.load` and
`Classifier.save` are the only I/O. What recognition does not do: judge an answer, or say that a call is easy.
"""

from slmfleet.recognise.classifier import Classifier, Decision
from slmfleet.recognise.features import Features, features
from slmfleet.recognise.frame import Frame, frame_fingerprint, frame_of, template_of

__all__ = ["Classifier", "Decision", "Features", "Frame", "features", "frame_fingerprint", "frame_of", "template_of"]
