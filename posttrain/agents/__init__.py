"""What attempts problems. An agent is `attempt(problem, n) -> rollouts`, whatever it is made of.

- `loop`          the bare model, which answers once
- `tool_agent`    the loop of many turns: a model in a world of tools, or in any other
- `conversation`  its nouns: the transcript, who speaks, the limits, the journal
- `local`         a policy, or another engine of tokens, as the speaker
- `chat`  `server`   a model behind a server that takes messages, as an agent that answers once and as a speaker
- `scripted`      agents and speakers whose words are known beforehand
- `recorded`      the world of an attempt that was made, to try the model again in
- `rag`           agents that read sources
- `faulty`        worlds that fail on purpose
- `toolboxes`     tools by name
"""
