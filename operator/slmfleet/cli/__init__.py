"""`slmfleet`, and `kubectl slm` as its plugin. Every stage also runs alone, on files, without a cluster."""
