"""What a model may call. A tool is a typed async function whose docstring the model reads.

    async def weather(city: str, days: int = 1) -> str:
        \"\"\"The forecast for a city.\"\"\"

    agent = ToolAgent(speaker, Calling((tool(weather), Calculator(), Python())))

- `tool`        a function as a tool: its schema, its call; what it may raise
- `schema`      types to JSON schemas, and arguments against them
- `calling`     tools as the partner of a model: calls run one after the other, each in its time, its answer of bounded length
- `calculator`  `python`  `files`  `search`  `web`  `model`  `mcp`     the tools
"""
