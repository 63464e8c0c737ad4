# Evaluates the cases with Jinja2: JSON of {context, expressions, templates} in, JSON of outcomes out.
import json
import sys

import jinja2

cases = json.load(sys.stdin)
environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
environment.policies["json.dumps_kwargs"] = {"sort_keys": False}


def outcome(work):
    try:
        return {"value": work()}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def expression(text):
    function = environment.compile_expression(text, undefined_to_none=False)
    value = function(**cases["context"])
    if isinstance(value, jinja2.Undefined):
        raise ValueError("undefined")
    return json.loads(json.dumps(plain(value)))


def plain(value):
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range, type({}.keys()), type({}.values()), type({}.items()))):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if hasattr(value, "__iter__"):
        return [plain(item) for item in value]
    raise ValueError(f"no value: {type(value).__name__}")


json.dump(
    {
        "version": jinja2.__version__,
        "expressions": [outcome(lambda: expression(text)) for text in cases["expressions"]],
        "templates": [outcome(lambda: environment.from_string(text).render(**cases["context"])) for text in cases["templates"]],
    },
    sys.stdout,
)
