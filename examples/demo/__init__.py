"""The demo: real text as an agent's traffic, a replayed LLM, a driver, and a table of what was measured.

    PYTHONPATH=examples python -m demo.run          the whole of it on a development cluster (`make demo`)

Every part runs alone: `demo.traffic` writes the calls, `demo.replay_llm` answers them as they were answered when they
were recorded, `demo.agent` sends them, `demo.report` reads what came back. They are the world around slmfleet and
import nothing of it; `demo.run` alone does, to open the log whose key it holds.
"""
