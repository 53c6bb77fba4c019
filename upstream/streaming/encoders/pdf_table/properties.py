"""The properties of a document, twice: as information dictionary, and as XMP (ISO 16684), which checkers read."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape, quoteattr

from upstream.streaming.encoders.pdf_table.objects import text_string

PRODUCER = "Upstream"
# What XML cannot hold; the information dictionary can.
CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF])
NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "pdf": "http://ns.adobe.com/pdf/1.3/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "pdfuaid": "http://www.aiim.org/pdfua/ns/id/",
    "pdfaid": "http://www.aiim.org/pdfa/ns/id/",
    "pdfaExtension": "http://www.aiim.org/pdfa/ns/extension/",
    "pdfaSchema": "http://www.aiim.org/pdfa/ns/schema#",
    "pdfaProperty": "http://www.aiim.org/pdfa/ns/property#",
}
# Archives ask for a description of each property that PDF/A does not know.
DESCRIBED = (
    '<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource"><pdfaSchema:schema>PDF/UA'
    f"</pdfaSchema:schema><pdfaSchema:namespaceURI>{NAMESPACES['pdfuaid']}</pdfaSchema:namespaceURI>"
    '<pdfaSchema:prefix>pdfuaid</pdfaSchema:prefix><pdfaSchema:property><rdf:Seq><rdf:li rdf:parseType="Resource">'
    "<pdfaProperty:name>part</pdfaProperty:name><pdfaProperty:valueType>Integer</pdfaProperty:valueType>"
    "<pdfaProperty:category>internal</pdfaProperty:category><pdfaProperty:description>the part of ISO 14289"
    "</pdfaProperty:description></rdf:li></rdf:Seq></pdfaSchema:property></rdf:li></rdf:Bag></pdfaExtension:schemas>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """What a document says of itself; empty texts are left out."""

    title: str
    author: str
    subject: str
    language: str
    created: datetime | None
    is_accessible: bool
    """Whether the document claims to follow PDF/UA-1 (ISO 14289-1)."""
    archival_level: str
    """Its level of PDF/A-2 (ISO 19005-2), "" for none."""

    def information(self) -> str:
        """Return the information dictionary."""
        texts = {"Title": self.title, "Author": self.author, "Subject": self.subject, "Producer": PRODUCER}
        entries = "".join(f"/{name}{text_string(text)}" for name, text in texts.items() if text)
        if self.created:
            entries += f"/CreationDate(D:{self._moment('%Y%m%d%H%M%S')})"
        return f"<<{entries}>>"

    def xmp(self) -> bytes:
        names = "".join(f" xmlns:{name}={quoteattr(address)}" for name, address in NAMESPACES.items())
        return (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about=""{names}>{"".join(self._elements())}</rdf:Description>'
            '</rdf:RDF></x:xmpmeta>\n<?xpacket end="r"?>'
        ).encode()

    def _elements(self) -> Iterator[str]:
        yield "<dc:format>application/pdf</dc:format>"
        for name, text in (("title", self.title), ("description", self.subject)):
            if text:
                listed = f'<rdf:Alt><rdf:li xml:lang="x-default">{_escaped(text)}</rdf:li></rdf:Alt>'
                yield f"<dc:{name}>{listed}</dc:{name}>"
        for name, kind, text in (("creator", "Seq", self.author), ("language", "Bag", self.language)):
            if text:
                yield f"<dc:{name}><rdf:{kind}><rdf:li>{_escaped(text)}</rdf:li></rdf:{kind}></dc:{name}>"
        yield f"<pdf:Producer>{PRODUCER}</pdf:Producer>"
        if self.created:
            yield f"<xmp:CreateDate>{self._moment('%Y-%m-%dT%H:%M:%S')}</xmp:CreateDate>"
        if self.is_accessible:
            yield "<pdfuaid:part>1</pdfuaid:part>"
        if level := self.archival_level:
            yield f"<pdfaid:part>2</pdfaid:part><pdfaid:conformance>{level}</pdfaid:conformance>"
            yield DESCRIBED if self.is_accessible else ""

    def _moment(self, form: str) -> str:
        created = self.created
        assert created is not None
        return f"{created.astimezone(UTC):{form}}Z" if created.tzinfo else f"{created:{form}}"


def _escaped(text: str) -> str:
    return escape(text.translate(CONTROLS))
