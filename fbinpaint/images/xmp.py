"""XMP, the XML metadata of a photo: carried over to its result, which also tells there that a model painted a part.

The words are those of the IPTC Photo Metadata Standard (2025.1): https://iptc.org/std/photometadata/specification/
"""

import os
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from fbinpaint.version import __version__

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"

# Properties that would be wrong of the result: its pixels are upright, the thumbnail shows what was removed, the part
# of the XMP that a JPEG file keeps elsewhere is not read, and gain maps and videos, which telephones put behind a
# picture, are not in the file. "*" = all of a namespace.
VIDEO = [f"{kind}{about}" for kind in ("MotionPhoto", "MicroVideo")
         for about in ("", "Version", "Offset", "PresentationTimestampUs")]  # fmt: skip
STALE = {
    ("http://ns.adobe.com/tiff/1.0/", "Orientation"),
    ("http://ns.adobe.com/xap/1.0/", "Thumbnails"),
    ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP"),
    ("http://ns.adobe.com/hdr-gain-map/1.0/", "*"),
    ("http://ns.apple.com/HDRGainMap/1.0/", "*"),
    ("http://ns.google.com/photos/1.0/container/", "*"),
    *(("http://ns.google.com/photos/1.0/camera/", name) for name in VIDEO),
}
EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"/></x:xmpmeta>'


def carry_over(xmp: bytes | str) -> bytes:
    """The XMP of a photo as it is right for its upright result. Raises ValueError where it is no well-formed XMP."""
    try:
        document = _parse(xmp)
        _remove(document, STALE)
        return _packet(document)
    except RecursionError as error:
        raise ValueError("XMP that is nested too deeply") from error


def tell_provenance(xmp: bytes | None, model: str) -> bytes:
    """The XMP with the statement that a part of the picture was painted by a model, beside all else that it says.

    xmp: of `carry_over`; None = there is none
    model: what it is called by, see `model_name`
    """
    document = _parse(xmp or EMPTY)
    properties = {
        "DigitalSourceType": COMPOSITE,
        "AISystemUsed": f"fbinpaint, model {model}",
        "AISystemVersionUsed": __version__,
    }
    _remove(document, {(IPTC, name) for name in properties})
    others = document.getElementsByTagNameNS(RDF, "Description")
    about = others[0].getAttributeNS(RDF, "about") if others else ""  # the same in all of them
    description = document.createElementNS(RDF, "rdf:Description")
    for name, value in (("xmlns:rdf", RDF), ("xmlns:Iptc4xmpExt", IPTC), ("rdf:about", about)):
        description.setAttribute(name, value)
    for name, value in properties.items():
        element = document.createElementNS(IPTC, f"Iptc4xmpExt:{name}")
        element.appendChild(document.createTextNode(value))
        description.appendChild(element)
    document.getElementsByTagNameNS(RDF, "RDF")[0].appendChild(description)
    return _packet(document)


def model_name(model: str | os.PathLike) -> str:
    """What a result calls its model: the name of a local folder, without the path to it, or the Hub id."""
    return os.path.basename(os.path.realpath(model)) if os.path.isdir(model) else str(model)


def _parse(xmp: bytes | str) -> minidom.Document:
    try:
        text = xmp if isinstance(xmp, str) else xmp.decode("utf-8-sig")
        text = text.strip("\0 \t\r\n")
        if "<!DOCTYPE" in text:  # no XMP has one; it could define entities that grow without end
            raise ValueError("XMP with a document type")
        document = minidom.parseString(text.encode())
    except ExpatError as error:
        raise ValueError(f"XMP that is not well-formed ({error})") from error
    if not document.getElementsByTagNameNS(RDF, "RDF"):
        raise ValueError("XMP without RDF")
    return document


def _remove(document: minidom.Document, properties: set[tuple[str, str]]) -> None:
    """Takes out properties, as STALE has them, whether they are written as elements or as attributes."""
    for namespace, name in properties:
        for element in document.getElementsByTagNameNS(namespace, name):
            if element.parentNode is not None:
                element.parentNode.removeChild(element)
        for description in document.getElementsByTagNameNS(RDF, "Description"):
            for attribute in list(description.attributes.values()):
                if attribute.namespaceURI == namespace and name in ("*", attribute.localName):
                    description.removeAttributeNode(attribute)


def _packet(document: minidom.Document) -> bytes:
    assert document.documentElement is not None, "`_parse` refuses a document without elements"
    body = document.documentElement.toxml().encode()
    return b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>' + body + b'<?xpacket end="w"?>'
