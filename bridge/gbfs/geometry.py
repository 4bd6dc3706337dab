"""Polygons as GeoJSON has them (RFC 7946, pure)."""

from protocol.business_area import Corner
from protocol.place import E7


def ring_of(polygon: tuple[Corner, ...]) -> list[list[float]]:
    """Return a closed ring, anticlockwise as RFC 7946 wants the outer one."""
    corners = [(lon, lat) for lat, lon in polygon]
    if corners[0] == corners[-1]:
        corners = corners[:-1]
    following = [*corners[1:], corners[0]]
    twice_area = sum(
        x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, following, strict=True)
    )
    if twice_area < 0:
        corners.reverse()
    return [[lon / E7, lat / E7] for lon, lat in (*corners, corners[0])]
