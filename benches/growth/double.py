"""A project with the pack twice: each indicator and typology again, under another id and with other thresholds, and, if asked, other windows.

    double.py PACK FOLDER [thresholds|windows]

PACK is a folder with rules/ and sql/; FOLDER is made. With `thresholds` (default) every number among the parameters differs, so that no condition of
the copy is one of the pack; with `windows` every length of a window does as well, so that no window is shared either.
"""

import re
import shutil
import sys
from pathlib import Path

LENGTH = re.compile(r"(?<=OVER )(\d+)(?= (?:days|hours|minutes|weeks))")


def other(text: str, windows: bool) -> str:
    """The rule with other numbers."""

    def value(match: re.Match) -> str:
        number = match.group(2)
        if "." in number:
            digits = len(number.split(".")[1]) + 2
            return f"{match.group(1)}{float(number) * 1.05:.{digits}f}"
        return f"{match.group(1)}{int(number) + max(1, int(number) // 10)}"

    text = re.sub(r"^(value = )(\d+(?:\.\d+)?)$", value, text, flags=re.M)
    if windows:
        # The longest windows that there may be get shorter.
        sign = {True: -1, False: 1}
        text = LENGTH.sub(lambda m: str(int(m[1]) + sign[int(m[1]) > 300] * max(1, int(m[1]) // 7)), text)
    return text


def main() -> None:
    pack, folder = Path(sys.argv[1]), Path(sys.argv[2])
    windows = sys.argv[3:] == ["windows"]
    for name in ("rules", "sql"):
        shutil.copytree(pack / name, folder / name)
    indicators = {path.stem: path for path in (pack / "rules/indicators").glob("*.toml")}
    indicators |= {path.parent.name: path for path in (pack / "sql/indicators").glob("*/indicator.toml")}
    typologies = {path.parent.name: path for path in (pack / "rules/typologies").glob("*/*/typology.toml")}
    typologies |= {path.parent.name: path for path in (pack / "sql/typologies").glob("*/*/typology.toml")}
    # A list may have the name of an indicator: those stand between single quotes.
    names = re.compile('"(' + "|".join(sorted(map(re.escape, indicators | typologies), key=len, reverse=True)) + ')"')
    for path in (indicators | typologies).values():
        text = names.sub(r'"again-\1"', path.read_text())
        again = folder / path.relative_to(pack)
        if path.parent.name == "indicators":
            again = again.with_name(f"again-{path.name}")
        else:
            again = again.parent.with_name(f"again-{path.parent.name}") / path.name
            again.parent.mkdir()
            query = path.with_name("query.sql")
            if query.exists():
                text_of_query = query.read_text()
                again.with_name("query.sql").write_text(other(text_of_query, windows))
        again.write_text(other(text, windows))
    print(f"{len(indicators)} indicators and {len(typologies)} typologies, twice")


main()
