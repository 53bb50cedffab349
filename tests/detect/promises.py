"""What is promised, in a few words each; docs/guarantees.md says it to users."""

PROMISES = {
    "P1": "no gap",
    "P2": "rows before the cursor",
    "P3": "states go forwards",
    "P4": "an honest cursor",
    "P5": "the border is read again",
    "P6": "late rows arrive",
    "P7": "effectively once",
    "P8": "few duplicates elsewhere",
    "P9": "overwriting is idempotent",
    "P10": "a lost reply is looked up",
    "P11": "no silent drop",
    "P12": "destinations are apart",
    "P13": "no delete by age in an incremental pass",
    "P14": "only a complete pass deletes",
    "P15": "no clock decides",
    "P16": "deletes come last, and guarded",
    "P17": "a fence",
    "P18": "locks are hints",
    "P19": "one run at a time",
    "P20": "states are replaced as a whole",
    "P21": "unknown is not empty",
    "P22": "a cursor fits its table",
    "P23": "formats are checked",
    "P24": "history",
    "P25": "a stop loses nothing",
    "P26": "bounded memory",
    "P27": "nothing hangs for ever",
    "P28": "an honest exit code",
    "P29": "nothing is left over",
    "P31": "values arrive as they are",
    "P32": "null keys are read",
    "P33": "a key is one row",
    "P34": "secrets stay secret",
    "P35": "variables are values",
    "P36": "strict YAML",
    "P37": "names are paths of their own",
    "P38": "identifiers are quoted",
    "P39": "plugins are not trusted",
}
"""Those that something of this version can break; their numbers have gaps."""


def number(promise: str) -> int:
    """For sorting."""
    return int(promise[1:])
