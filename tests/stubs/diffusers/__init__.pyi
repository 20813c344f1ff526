# diffusers' own annotations contradict its code (`tuple[str]` for tuples of any length, parts that may be None
# typed as never None, names missing from its export list), so the type checker sees it as untyped.
from typing import Any

def __getattr__(name: str) -> Any: ...
