"""The parts of a workbook besides its sheets (ECMA-376): styles, names, properties, and what belongs to what."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from upstream.streaming.databases.protocol import MAX_PLACES, CellStyle
from upstream.streaming.encoders.xlsx.cells import escaped
from upstream.streaming.encoders.xlsx.sheets import NAMESPACE, START

MAX_NAME = 31
FORBIDDEN = frozenset("[]:*?/\\")
RESERVED = "history"  # Excel keeps it for itself

WORKBOOK = "xl/workbook.xml"
# As `workbook` writes them.
SHEET = re.compile(rb"<sheet name=")
FILTERED = re.compile(rb'localSheetId="(\d+)" hidden="1">[^<]*!\$A\$1:\$([A-Z]+)\$(\d+)<')

OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
SPREADSHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml"
CONTENT_TYPE = f"{SPREADSHEET}.sheet"

# Number formats of dates and times: the same in every country. Numbers below 164 are built in.
DATE_FORMATS = {
    CellStyle.DATE: "yyyy-mm-dd",
    CellStyle.DATETIME: "yyyy-mm-dd hh:mm:ss",
    CellStyle.TIME: "hh:mm:ss",
}
FIRST_FORMAT = 164
PLAIN_FONT, BOLD_FONT = 0, 1
NO_BORDER, HEADER_BORDER, TOTAL_BORDER = 0, 1, 2
HEADER_FILL = 2  # 0 and 1 are fixed

FONTS = (
    '<fonts count="2"><font><sz val="11"/><name val="Calibri"/><family val="2"/></font>'
    '<font><b/><sz val="11"/><color rgb="FF0F2A43"/><name val="Calibri"/><family val="2"/></font></fonts>'
)
FILLS = (
    '<fills count="3"><fill><patternFill patternType="none"/></fill>'
    '<fill><patternFill patternType="gray125"/></fill>'
    '<fill><patternFill patternType="solid"><fgColor rgb="FFE6EDF5"/><bgColor indexed="64"/></patternFill></fill>'
    "</fills>"
)
NO_SIDES = "<border><left/><right/><top/><bottom/><diagonal/></border>"
LINE = '<{side} style="{style}"><color rgb="FF7F96B2"/></{side}>'
BORDERS = (
    f'<borders count="3">{NO_SIDES}'
    f"{NO_SIDES.replace('<bottom/>', LINE.format(side='bottom', style='medium'))}"
    f"{NO_SIDES.replace('<top/>', LINE.format(side='top', style='thin'))}</borders>"
)


class Sheet(NamedTuple):
    """A sheet of the finished workbook: its rows without the totals, and whether the first is a header."""

    name: str
    last_column: str
    rows: int
    has_header: bool


def check_name(name: str) -> None:
    """Raise ValueError unless `name` is one that Excel takes for a sheet."""
    if not isinstance(name, str) or clean_name(name) != name:
        raise ValueError(
            f"sheet must be a name of 1 to {MAX_NAME} characters, without any of {' '.join(sorted(FORBIDDEN))} "
            f"and without an apostrophe at its ends, not {name!r}"
        )


def clean_name(name: str) -> str:
    """Return the name that is nearest to `name` and fit for a sheet."""
    name = "".join("_" if one in FORBIDDEN or not one.isprintable() else one for one in name)
    name = _cut(name, MAX_NAME).strip("'") or "Sheet"
    return f"{name}_" if name.lower() == RESERVED else name


def unique_name(name: str, taken: Collection[str], number: int = 1) -> str:
    """Return a name that is not among those taken, in lower case; from the second `number` on it is numbered."""
    while True:
        end = f" ({number})" if number > 1 else ""
        candidate = _cut(name, MAX_NAME - len(end)) + end
        if candidate.lower() not in taken:
            return candidate
        number += 1


def _cut(text: str, units: int) -> str:
    return text.encode("utf-16-le", "replace")[: 2 * units].decode("utf-16-le", "ignore")


def styles(custom: Sequence[str]) -> bytes:
    """Return the styles of cells, as `CellStyle` numbers them; `custom` are the caller's number formats."""
    places = ["0." + "0" * number for number in range(1, MAX_PLACES + 1)]
    formats = [*DATE_FORMATS.values(), *places, *custom]
    of_format = {code: FIRST_FORMAT + number for number, code in enumerate(formats)}
    dates = [_style(of_format[code]) for code in DATE_FORMATS.values()]
    header = partial(_style, font=BOLD_FONT, border=HEADER_BORDER, fill=HEADER_FILL, vertical="center")
    total = partial(_style, font=BOLD_FONT, border=TOTAL_BORDER)
    made = [
        _style(),
        header(),
        header(quoted=True),
        *dates,
        _style(quoted=True),
        _style(wrapped=True),
        _style(quoted=True, wrapped=True),
        *[_style(of_format[code]) for code in places],
        total(),
        *[total(of_format[code]) for code in places],
        header(horizontal="right"),
        *[style for code in custom for style in (_style(of_format[code]), total(of_format[code]))],
    ]
    assert len(made) == CellStyle.CUSTOM + 2 * len(custom)
    numbered = "".join(
        f'<numFmt numFmtId="{number}" formatCode={_attribute(code)}/>' for code, number in of_format.items()
    )
    return (
        f'{START}<styleSheet xmlns="{NAMESPACE}"><numFmts count="{len(of_format)}">{numbered}</numFmts>'
        f"{FONTS}{FILLS}{BORDERS}"
        '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" applyAlignment="1">'
        '<alignment vertical="top"/></xf></cellStyleXfs>'  # LibreOffice takes it for cells without a style
        f'<cellXfs count="{len(made)}">{"".join(made)}</cellXfs>'
        '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
    ).encode()


def _style(
    number_format: int = 0,
    *,
    font: int = PLAIN_FONT,
    fill: int = 0,
    border: int = NO_BORDER,
    vertical: str = "top",
    horizontal: str = "",
    quoted: bool = False,
    wrapped: bool = False,
) -> str:
    applied = ' applyNumberFormat="1"' if number_format else ""
    quote = ' quotePrefix="1"' if quoted else ""
    aligned = f' horizontal="{horizontal}"' if horizontal else ""
    wrap = ' wrapText="1"' if wrapped else ""
    return (
        f'<xf numFmtId="{number_format}" fontId="{font}" fillId="{fill}" borderId="{border}" xfId="0"{quote}'
        f'{applied} applyFont="1" applyFill="1" applyBorder="1" applyAlignment="1">'
        f'<alignment{aligned} vertical="{vertical}"{wrap}/></xf>'
    )


def workbook(sheets: Sequence[Sheet], *, calculates: bool) -> bytes:
    """Return the list of sheets; `calculates` says that a cell is a formula."""
    listed = "".join(
        f'<sheet name={_attribute(sheet.name)} sheetId="{number}" r:id="rId{number}"/>'
        for number, sheet in enumerate(sheets, 1)
    )
    calculation = '<calcPr fullCalcOnLoad="1"/>' if calculates else ""
    names = "".join(_defined_names(sheet, at) for at, sheet in enumerate(sheets) if sheet.has_header)
    return (
        f'{START}<workbook xmlns="{NAMESPACE}" xmlns:r="{OFFICE}/relationships"><workbookPr/>'
        f"<bookViews><workbookView/></bookViews><sheets>{listed}</sheets>"
        f"{f'<definedNames>{names}</definedNames>' if names else ''}"
        f"{calculation}</workbook>"
    ).encode()


def _defined_names(sheet: Sheet, at: int) -> str:
    """Return the names of what the filters filter, and of the rows that are printed on each page."""
    name = _quoted(sheet.name)
    area = escaped(f"{name}!$A$1:${sheet.last_column}${sheet.rows}")
    return (
        f'<definedName name="_xlnm._FilterDatabase" localSheetId="{at}" hidden="1">{area}</definedName>'
        f'<definedName name="_xlnm.Print_Titles" localSheetId="{at}">{escaped(name)}!$1:$1</definedName>'
    )


def sizes_of(workbook: bytes) -> list[tuple[str, int, bool]]:
    """Return the sheets that `workbook` listed, without their names; no size is known without a header."""
    filtered = {int(at): (column.decode(), int(rows), True) for at, column, rows in FILTERED.findall(workbook)}
    return [filtered.get(at, ("", 0, False)) for at in range(len(SHEET.findall(workbook)))]


def sum_formula(column: str, sheets: Sequence[Sheet]) -> str:
    """Return the formula that sums up a column: of one sheet what its filters show, of several all of it."""
    areas = [f"{column}{1 + sheet.has_header}:{column}{max(sheet.rows, 1 + sheet.has_header)}" for sheet in sheets]
    if len(sheets) == 1:
        return f"SUBTOTAL(109,{areas[0]})"
    named = (f"{_quoted(sheet.name)}!{area}" for sheet, area in zip(sheets, areas, strict=True))
    return escaped(f"SUM({','.join(named)})")


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def workbook_relationships(sheets: int) -> bytes:
    """Return where the sheets and the styles are."""
    targets = [("worksheet", sheet_path(number).removeprefix("xl/")) for number in range(1, sheets + 1)]
    targets.append(("styles", "styles.xml"))
    return _relationships([(f"{OFFICE}/relationships/{kind}", path) for kind, path in targets])


def package_relationships() -> bytes:
    """Return where the workbook and its properties are."""
    return _relationships([
        (f"{OFFICE}/relationships/officeDocument", "xl/workbook.xml"),
        (f"{PACKAGE}/relationships/metadata/core-properties", "docProps/core.xml"),
        (f"{OFFICE}/relationships/extended-properties", "docProps/app.xml"),
    ])  # fmt: skip


def _relationships(targets: Sequence[tuple[str, str]]) -> bytes:
    listed = "".join(
        f'<Relationship Id="rId{number}" Type="{kind}" Target="{path}"/>'
        for number, (kind, path) in enumerate(targets, 1)
    )
    return f'{START}<Relationships xmlns="{PACKAGE}/relationships">{listed}</Relationships>'.encode()


def core_properties(title: str, author: str) -> bytes:
    """Return the properties that file managers show."""
    given: Mapping[str, str] = {"dc:title": title, "dc:creator": author}
    elements = "".join(f"<{name}>{escaped(text)}</{name}>" for name, text in given.items() if text)
    return (
        f'{START}<cp:coreProperties xmlns:cp="{PACKAGE}/metadata/core-properties"'
        f' xmlns:dc="http://purl.org/dc/elements/1.1/">{elements}</cp:coreProperties>'
    ).encode()


def application_properties() -> bytes:
    return (
        f'{START}<Properties xmlns="{OFFICE}/extended-properties"><Application>Upstream</Application></Properties>'
    ).encode()


def content_types(sheets: int) -> bytes:
    """Return what each part is."""
    types = {
        "/xl/workbook.xml": f"{SPREADSHEET}.sheet.main+xml",
        **{f"/{sheet_path(number)}": f"{SPREADSHEET}.worksheet+xml" for number in range(1, sheets + 1)},
        "/xl/styles.xml": f"{SPREADSHEET}.styles+xml",
        "/docProps/core.xml": "application/vnd.openxmlformats-package.core-properties+xml",
        "/docProps/app.xml": "application/vnd.openxmlformats-officedocument.extended-properties+xml",
    }
    overrides = "".join(f'<Override PartName="{name}" ContentType="{kind}"/>' for name, kind in types.items())
    return (
        f'{START}<Types xmlns="{PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>'
    ).encode()


def sheet_path(number: int) -> str:
    return f"xl/worksheets/sheet{number}.xml"


def _attribute(text: str) -> str:
    return quoteattr(text, {"\n": "&#10;"})
