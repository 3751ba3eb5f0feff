"""python -m slmfleet.cli"""

from slmfleet.cli.main import run

run()
