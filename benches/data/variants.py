#!/usr/bin/env python3
"""Many rules from few: the ten conditions of benches/t10 again with other filters, other windows, or both.

    variants.py SET --out FOLDER      a project whose rules are those of SET
    variants.py SET --list            how many there are

    t10     the ten as they are
    t40f    each four times: as it is, and with three filters that all its features get beside their own
    t40w    each four times: as it is, and with windows of a half, a quarter and three quarters of the length
    t160    each with all filters and all windows: sixteen times

The filters are few and each is shared by many features, and so are the windows, as in rule sets that people write.
"""
import argparse
import re
import sys
from pathlib import Path

RULES = Path(__file__).resolve().parents[1] / "t10" / "rules" / "indicators"
FILTERS = {
    "": None,
    "-not-crypto": "method <> 'crypto'",
    "-some-merchants": "mcc IN ('4829', '6011', '6051', '7995')",
    "-from-50": "amount >= 50",
}
LENGTHS = {"": 1.0, "-half": 0.5, "-quarter": 0.25, "-most": 0.75}
SETS = {
    "t10": ([""], [""]),
    "t40f": (list(FILTERS), [""]),
    "t40w": ([""], list(LENGTHS)),
    "t160": (list(FILTERS), list(LENGTHS)),
}
# name = "aggregate [FILTER (WHERE condition)] OVER length unit"
FEATURE = re.compile(r'^(\w+) = "(\w+\([^"]*?\))(?: FILTER \(WHERE ([^"]*)\))? OVER (\d+) (hours|days)"$', re.M)
MINUTES = {"hours": 60, "days": 1440}


def varied(rule, name, condition, share):
    def feature(match):
        feature, aggregate, own, length, unit = match.groups()
        both = [f"({part})" for part in (own, condition) if part]
        where = f" FILTER (WHERE {' AND '.join(both)})" if both else ""
        minutes = int(length) * MINUTES[unit] * share
        if minutes != int(minutes):
            sys.exit(f"{name}: {minutes} minutes is no whole number")
        return f'{feature} = "{aggregate}{where} OVER {int(minutes)} minutes"'

    text, count = FEATURE.subn(feature, rule)
    features = re.search(r"^\[features\]\n(.*?)\n\n", rule, re.M | re.S)[1].splitlines()
    windows = [line for line in features if " OVER " in line]
    if count != len(windows):
        sys.exit(f"{name}: {len(windows)} features are windows, {count} of them were understood")
    return re.sub(r'^id = ".*"$', f'id = "{name}"', text, count=1, flags=re.M)


def rules(wanted):
    filters, lengths = SETS[wanted]
    for path in sorted(RULES.glob("*.toml")):
        for filter_name in filters:
            for length in lengths:
                name = path.stem + filter_name + length
                yield name, varied(path.read_text(), name, FILTERS[filter_name], LENGTHS[length])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=sorted(SETS))
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--out")
    group.add_argument("--list", action="store_true")
    args = parser.parse_args()
    all_rules = dict(rules(args.set))
    if args.list:
        print(len(all_rules))
        return
    folder = Path(args.out) / "rules" / "indicators"
    folder.mkdir(parents=True)
    for name, text in all_rules.items():
        (folder / f"{name}.toml").write_text(text)


if __name__ == "__main__":
    main()
