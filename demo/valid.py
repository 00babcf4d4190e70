"""Holds every line of an event log against the JSON Schema that is published for records, and the JSON objects in
their data against what it says of each event's.

valid.py SCHEMA LOG... prints how many lines there were; the exit code is 1 if one is not as the schema says, or has
a member that the schema does not know.
"""

import base64
import ipaddress
import json
import sys

import fastjsonschema


def is_address(text: str) -> bool:
    """Whether that is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


# Those of numbers only say how many bits there are, which bounds say, too.
FORMATS = {"ip": is_address, "uint8": bool, "uint16": bool, "uint32": bool, "uint64": bool}


def close(schema: dict) -> None:
    """What is published takes members that later versions add. Here each that it does not know is a mistake."""
    for part in (schema, *schema["$defs"].values()):
        if "properties" in part:
            part["additionalProperties"] = False


def objects(schema: dict) -> dict:
    """By event, what validates the object in its data: validators leave a `contentSchema` to whoever decodes."""
    validators = {}
    for rule in schema["allOf"]:
        content = rule["then"]["properties"]["data"]["contentSchema"]["$ref"].removeprefix("#/$defs/")
        event = rule["if"]["properties"]["event"]["const"]
        validators[event] = fastjsonschema.compile(schema["$defs"][content])
    return validators


def main(schema_path: str, logs: list[str]) -> int:
    with open(schema_path, encoding="utf-8") as file:
        schema = json.load(file)
    close(schema)
    contents = objects(schema)
    validate = fastjsonschema.compile(schema, formats=FORMATS)
    count = wrong = 0
    for path in logs:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                count += 1
                try:
                    record = validate(json.loads(line))
                    why = None
                    if "data" in record and record["event"] in contents:
                        contents[record["event"]](json.loads(base64.b64decode(record["data"])))
                except (ValueError, fastjsonschema.JsonSchemaException) as error:
                    why = str(error)
                if why:
                    wrong += 1
                    if wrong <= 5:
                        print(f"{path}:{number}: {ascii(why)[:300]}", file=sys.stderr)
    print(count)
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
