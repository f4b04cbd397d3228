"""A head as T1-weighted MRI would show it, as a function of the place in the world.

Nothing here was measured on a person: the shapes are ellipsoids, tubes and sheets, and the folds of the cortex are
the zero set of band-limited noise, which is a labyrinth of sheets as wide as gyri are. World coordinates are
millimetres, x to the right, y to the front, z up; the origin is near the middle of the brain.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sample_data.noise import Lattice

CSF, GREY, WHITE, PALLIDUM, THALAMUS, STRIATUM = 0.17, 0.57, 0.88, 0.75, 0.69, 0.59
BONE, MARROW, FAT, MUSCLE, SKIN = 0.06, 0.42, 0.98, 0.46, 0.60

VENTRICLE = (
    (13, 33, 1),
    (8, 22, 9),
    (7, 6, 15),
    (9, -12, 17),
    (17, -28, 13),
    (24, -36, 5),
    (25, -30, -6),
    (30, -14, -15),
)
OCCIPITAL_HORN = ((23, -36, 5), (20, -46, 3), (17, -57, 1))


@dataclass
class Points:
    """Places in the world: x, y, z in mm on a grid of three axes, with the grid's spacing."""

    x: Tensor
    y: Tensor
    z: Tensor
    spacing: tuple[float, float, float]

    def mirrored(self) -> Points:
        """The same places with right and left taken as one side."""
        return Points(self.x.abs(), self.y, self.z, self.spacing)


def ellipsoid(p: Points, centre: tuple[float, float, float], semi: tuple[float, float, float]) -> Tensor:
    """The distance to an ellipsoid, negative inside, in mm (first order near the surface)."""
    terms = [(v - c) / s for v, c, s in zip((p.x, p.y, p.z), centre, semi, strict=True)]
    level = torch.sqrt(sum((t * t for t in terms), torch.full_like(p.x, 1e-6)))
    slope = torch.sqrt(sum(((t / s) ** 2 for t, s in zip(terms, semi, strict=True)), torch.full_like(p.x, 1e-9)))
    return level * (level - 1) / slope


def tube(p: Points, path: tuple[tuple[float, float, float], ...], radius: float) -> Tensor:
    """The distance to a tube along a path of points, negative inside."""
    nearest = torch.full_like(p.x, 1e9)
    for start, end in pairwise(path):
        along = [b - a for a, b in zip(start, end, strict=True)]
        offset = [v - a for v, a in zip((p.x, p.y, p.z), start, strict=True)]
        t = sum((o * d for o, d in zip(offset, along, strict=True)), torch.zeros_like(p.x)) / sum(d * d for d in along)
        t = t.clamp(0, 1)
        squared = sum(((o - t * d) ** 2 for o, d in zip(offset, along, strict=True)), torch.zeros_like(p.x))
        nearest = torch.minimum(nearest, squared)
    return nearest.sqrt() - radius


def smooth_min(a: Tensor, b: Tensor, width: float) -> Tensor:
    """The smaller of two distances, rounded over `width` where they meet."""
    h = (width - (a - b).abs()).clamp(min=0) / width
    return torch.minimum(a, b) - h * h * width / 4


def inside(distance: Tensor, soft: float = 0.35) -> Tensor:
    """How much of a place lies inside a surface: 1 where the distance is well below zero."""
    return torch.sigmoid(-distance * (2 / soft))


def mix(base: Tensor, value: Tensor | float, amount: Tensor) -> Tensor:
    """`base` with `amount` of it replaced by `value`."""
    return base + (value - base) * amount


def steepness(field: Tensor, spacing: tuple[float, float, float]) -> Tensor:
    """The length of a field's gradient, for one mm."""
    return torch.sqrt(sum((g * g for g in torch.gradient(field, spacing=list(spacing))), torch.full_like(field, 1e-6)))


class Head:
    """The phantom: `signal(points)` is its T1-weighted signal, with white matter at 0.88."""

    def __init__(self, seed: int) -> None:
        self.folds = Lattice(17.5, (seed, 1))
        self.ripples = Lattice(9.0, (seed, 2))
        self.drift = [Lattice(85.0, (seed, 3 + axis)) for axis in range(3)]
        self.mottle = Lattice(5.0, (seed, 9))

    def signal(self, p: Points) -> Tensor:
        """The signal at points; needs a border of one point on each axis for its gradients."""
        texture = 1 + 0.012 * self.mottle.at(p.x, p.y, p.z)
        p = self._warped(p)
        envelope = self._envelope(p)
        cerebellum = self._cerebellum_body(p)
        image = self._layers(p, smooth_min(envelope, 1.5 - cerebellum, 12.0))
        image = self._cerebellum(p, cerebellum, image)
        image = self._stem(p, image)
        image = self._cerebrum(p, smooth_min(-envelope, -cerebellum - 2.2, 3.0), image)
        return self._ventricles(p, image) * texture

    def _warped(self, p: Points) -> Points:
        """Places displaced by a few mm, smoothly, so that right and left differ and no shape is an ellipsoid."""
        shift = [1.5 * noise.at(p.x, p.y, p.z) for noise in self.drift]
        return Points(p.x + shift[0], p.y + shift[1], p.z + shift[2], p.spacing)

    def _envelope(self, p: Points) -> Tensor:
        """The distance to the envelope of the cerebrum: broader behind than in front, flatter below."""
        breadth = 1 - 0.0016 * (p.y + 10)
        shaped = Points(p.x / breadth, p.y, torch.where(p.z > 0, p.z, p.z * 1.15), p.spacing)
        return ellipsoid(shaped, (0, 0, 2), (59.5, 75, 58))

    def _layers(self, p: Points, hull: Tensor) -> Tensor:
        """Air, scalp, muscle, the three layers of the skull, and fluid around the brain."""
        thick = 0.6 * self.drift[0].at(p.y, p.z, p.x)
        temporal = ((p.x.abs() - 40) / 30).clamp(0, 1) * ((8 - p.z) / 20).clamp(0, 1)
        diploe = MARROW * (1 + 0.25 * self.ripples.at(p.x, p.y, p.z))
        image = torch.full_like(hull, 0.015)
        image = mix(image, SKIN, inside(hull - 12.2 - 1.6 * thick))
        image = mix(image, FAT, inside(hull - 10.6 - 1.6 * thick))
        image = mix(image, mix(torch.full_like(hull, FAT), MUSCLE, temporal), inside(hull - 8.4 - thick))
        image = mix(image, BONE, inside(hull - 7.6 - thick))
        image = mix(image, diploe, inside((hull - 4.9 - thick).abs() - 1.2))
        image = mix(image, 0.30, inside(hull - 2.4))
        return mix(image, CSF, inside(hull - 1.6))

    def _cerebrum(self, p: Points, depth: Tensor, image: Tensor) -> Tensor:
        """The folded ribbon, the white matter below it and the grey nuclei; `depth` is that below the envelope."""
        depth = smooth_min(depth, ellipsoid(p, (0, -12, -34), (17, 20, 22)), 4.0)
        pial = self._pial(p, depth)
        thickness = 2.75 + 0.3 * self.drift[1].at(p.z, p.x, p.y)
        cortex = GREY + 0.05 * (0.5 - pial / thickness).clamp(-0.5, 0.5)
        tissue = mix(torch.full_like(pial, WHITE), cortex, inside(pial - thickness, 0.7))
        tissue = self._deep_grey(p.mirrored(), tissue)
        return mix(image, tissue, inside(-pial))

    def _pial(self, p: Points, depth: Tensor) -> Tensor:
        """The distance to the surface of the cortex, sulci included; positive inside the tissue."""
        midline, below_callosum = self._midline(p)
        medial = torch.sqrt((1.5 * midline) ** 2 + (3 * below_callosum) ** 2)
        exposed = torch.minimum(depth, medial + 2)
        radius = torch.sqrt((p.x / 61) ** 2 + (p.y / 75) ** 2 + (p.z / 58) ** 2 + 1e-4)
        fan = radius.clamp(0.25, 1.3) ** -0.5
        side = 9 * torch.tanh(p.x / 4)
        waves = self.folds.at(p.x * fan + side, p.y * fan, p.z * fan)
        waves = waves + 0.3 * self.ripples.at(p.x * fan, p.y * fan, p.z * fan + 7)
        # The phase of the wave: the distance near a sulcus, and a bounded one where the wave is flat.
        turns = fan * (2 * torch.pi / 32.0)
        sulcus = torch.atan2(waves.abs(), steepness(waves, p.spacing) / turns) / turns
        reach = 18.5 + 4.5 * self.drift[2].at(2 * p.y, 2 * p.x, 2 * p.z)
        beyond = (exposed - reach).clamp(min=0) + 60 * (0.5 - radius).clamp(min=0)
        sulcus = torch.sqrt(sulcus**2 + beyond**2) - 0.5 * (1 - exposed / 30).clamp(0.3, 1)
        fissure = torch.sqrt(midline**2 + below_callosum**2) - 0.9
        insula = self._sylvian(p.mirrored()) - 0.8
        surface = smooth_min(depth, sulcus, 2.6)
        return smooth_min(smooth_min(surface, fissure, 1.5), insula, 1.5)

    def _midline(self, p: Points) -> tuple[Tensor, Tensor]:
        """The distance to the plane between the hemispheres, and how deep a place is below the corpus callosum."""
        wobble = 1.2 * self.drift[0].at(p.y * 0 + 11, p.y, p.z)
        callosum = ellipsoid(Points(p.x * 0, p.y, p.z, p.spacing), (0, -2, -3), (60, 37, 29))
        return (p.x - wobble).abs(), (-callosum).clamp(min=0)

    def _sylvian(self, p: Points) -> Tensor:
        """The distance to the lateral fissure: the sheet over the insula, and the way out to the side."""
        bend = 3.0 * self.drift[1].at(p.x, p.y, p.z) + 1.6 * self.folds.at(p.y, p.x, p.z)
        over = torch.sqrt(((p.y - 4).abs() - 20).clamp(min=0) ** 2 + ((p.z - 1).abs() - 11).clamp(min=0) ** 2)
        insula = torch.sqrt((p.x - 41.5 + 0.006 * (p.y - 4) ** 2 + 0.4 * bend) ** 2 + over**2)
        edge = (41.0 - p.x).clamp(min=0)
        span = ((p.y - 0).abs() - 26).clamp(min=0)
        way_out = torch.sqrt((p.z + 2 - 0.35 * (4 - p.y) + bend) ** 2 * 0.8 + edge**2 + span**2)
        return torch.minimum(insula, way_out)

    def _deep_grey(self, p: Points, tissue: Tensor) -> Tensor:
        """Claustrum, striatum, pallidum and thalamus, one side; the white matter between them is the capsule."""
        claustrum = torch.sqrt(
            (p.x - 35.6 + 0.008 * (p.y - 3) ** 2) ** 2
            + ((p.y - 3).abs() - 15).clamp(min=0) ** 2
            + ((p.z - 2).abs() - 9).clamp(min=0) ** 2
        )
        tissue = mix(tissue, GREY, inside(claustrum - 0.65))
        turned = Points(p.x - 0.28 * (p.y - 2), p.y, p.z, p.spacing)
        bowed = Points(p.x + 0.010 * (p.y - 3) ** 2, p.y, p.z, p.spacing)
        tissue = mix(tissue, STRIATUM, inside(ellipsoid(bowed, (28.5, 3, 3), (5.2, 16.5, 11)), 0.8))
        tissue = mix(tissue, PALLIDUM, inside(ellipsoid(bowed, (21.0, -1, 1), (4.6, 10.5, 7.5)), 1.0))
        head = ellipsoid(turned, (15.0, 19, 8), (6.2, 12, 10))
        tail = tube(p, ((14, 12, 15), (16, -5, 20), (20, -22, 17)), 2.6)
        tissue = mix(tissue, STRIATUM, inside(smooth_min(head, tail, 3), 0.7))
        away = Points(p.x + 0.35 * (p.y + 14), p.y, p.z, p.spacing)
        return mix(tissue, THALAMUS, inside(ellipsoid(away, (11.0, -14, 7), (8.6, 14.5, 9)), 1.6))

    def _ventricles(self, p: Points, image: Tensor) -> Tensor:
        """The lateral ventricles with their plexus, the third ventricle, and the aqueduct."""
        side = p.mirrored()
        slim = Points(side.x, side.y, side.z * 0.8 + 1.5, side.spacing)
        body = smooth_min(tube(slim, VENTRICLE, 4.4), tube(slim, OCCIPITAL_HORN, 2.6), 4.0)
        third = ellipsoid(side, (0, -9, 1), (1.9, 15, 11))
        image = mix(image, CSF, inside(smooth_min(body, third, 1.0)))
        plexus = tube(side, ((17, -27, 14), (23, -35, 5), (24, -31, -5)), 1.9) + 0.6 * self.ripples.at(p.x, p.y, p.z)
        return mix(image, 0.48, inside(plexus) * inside(body + 0.3))

    def _stem(self, p: Points, image: Tensor) -> Tensor:
        """The brain stem with its nuclei hinted, and the aqueduct."""
        column = tube(p, ((0, -18, -8), (0, -22, -24), (0, -26, -50)), 11.5)
        peduncle = tube(p.mirrored(), ((14, -10, -6), (9, -16, -18), (6, -20, -26)), 5.5)
        stem = smooth_min(column, peduncle, 4.0)
        image = mix(image, 0.80 + 0.03 * self.ripples.at(p.x, p.y, p.z), inside(stem))
        nuclei = ellipsoid(p.mirrored(), (5, -17, -13), (3.2, 3.2, 4))
        image = mix(image, 0.68, inside(nuclei, 1.2))
        return mix(image, CSF, inside(tube(p, ((0, -27, -8), (0, -29, -22)), 0.9)))

    def _cerebellum_body(self, p: Points) -> Tensor:
        """The depth below the surface of the cerebellum: two hemispheres and the worm between them."""
        hemisphere = ellipsoid(p.mirrored(), (21, -50, -38), (26, 26, 21))
        return -smooth_min(hemisphere, ellipsoid(p, (0, -54, -36), (13, 23, 19)), 5.0)

    def _cerebellum(self, p: Points, body: Tensor, image: Tensor) -> Tensor:
        """The folia: fissures every few mm around the stem, thin grey matter, a white core."""
        bend = 1.5 * self.drift[2].at(2 * p.x, 2 * p.y, 2 * p.z) + 0.5 * self.ripples.at(p.x, p.y, p.z)
        away = torch.sqrt((p.x * 0.62) ** 2 + (p.y + 22) ** 2 + ((p.z + 36) * 0.85) ** 2) + bend
        fissure = ((away / 4.2) % 1 - 0.5).abs() * 4.2
        fissure = torch.sqrt(fissure**2 + (body - 11 - 4 * bend).clamp(min=0) ** 2) - 0.22
        pial = smooth_min(body, fissure, 1.0)
        tissue = mix(torch.full_like(pial, WHITE * 0.97), GREY, inside(pial - 1.25, 0.6))
        return mix(image, tissue, inside(-pial))
