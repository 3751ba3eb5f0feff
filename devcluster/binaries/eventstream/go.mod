module slmfleet.dev/devcluster/eventstream

go 1.24.0
