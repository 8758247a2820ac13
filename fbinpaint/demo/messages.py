"""What the page is told in a line."""


def told(text: str, kind: str = "info") -> dict:
    return {"text": text, "kind": kind}
