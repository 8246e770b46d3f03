# SPDX-License-Identifier: Apache-2.0
"""Finer tokens given coarser ones of the same place, all places at once.

    h = clip(Σ_s E_s[token of the s-th coarser plane], 0, 127)
    logit[k] = ⌊O[k]·h / 2^s⌋ + 32 log2 f[k]                    in 1/32 bit

Which planes say something of which states the quantizer (`Quantizer.given`): of a
residual one the level before, of a cascade all groups of the coarser levels there.
Planes of one codebook share E and O (int8) and the order-0 frequencies f; a plane that
is given nothing has f alone. A pass codes all planes of a codebook, so there are as
many passes as codebooks whatever the picture's size. An alphabet of more than 4,096
tokens is two symbols, a block of 64 and the token inside it, each with such logits: the
coder's categorical prior tells no more apart. Sums of products stay below 2^24, so that
float32 carries them exactly in any order: the same bits everywhere.  # BITSTREAM

McQuic, which codes its cascade by order-0 histograms (Zhu et al. 2022, arXiv
2203.10897, section 3.3), has nothing like it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.entropy_models.base import Coder
from polycodec.entropy_models.coders import RateEstimator
from polycodec.entropy_models.exact.functions import UNIT, log_table
from polycodec.entropy_models.priors.categorical import Categorical, Indexed
from polycodec.entropy_models.tokens.base import TokenModel
from polycodec.entropy_models.tokens.learned import shift_for, unit_of
from polycodec.entropy_models.tokens.steps import MOST
from polycodec.entropy_models.tokens.walk import LEAST, NEVER
from polycodec.errors import BitstreamError, ModelError
from polycodec.registry import register

BLOCK = 64  # BITSTREAM: tokens of a large alphabet that share their first symbol
TOP = 127  # BITSTREAM: of E, O and h
LOGITS = 1 << 22  # of a pass at most; more places are more passes  # BITSTREAM
STEPS = 800  # of learning, unless told
BATCH, RATE = 512, 1e-2  # places of a step and codebook; of Adam
TRIALS = 4  # how often it is asked
TRIED = 4096  # places of a codebook that are asked


class Book:
    """Planes that share a codebook, and where its rows are in E and O."""

    def __init__(self, size: int, planes: list[int], most: int) -> None:
        self.size, self.planes = size, planes
        self.above: list[tuple[int, ...]] = []  # of each plane
        self.embed: list[slice] = []  # of each of those
        self.blocks = -(-size // BLOCK) if size > most else 0
        self.out = self.first = slice(0)


class Conditional(nn.Module):
    """E and O in floating point, while they are learned."""

    def __init__(self, rows: tuple[int, int], width: int) -> None:
        super().__init__()
        self.embed = nn.Parameter(0.1 * torch.randn(rows[0], width))
        self.out = nn.Parameter(0.1 * torch.randn(rows[1], width))


@register("entropy/tokens-conditional")
class ConditionalTokens(TokenModel):
    """``sizes``: tokens of each plane; ``alike`` and ``given``: as the quantizer has
    them, planes one after the other unless told; ``width``: of h."""

    embed: Tensor
    out: Tensor
    shift: Tensor

    def __init__(
        self,
        *,
        sizes: Sequence[int],
        alike: Sequence[int] | None = None,
        given: Sequence[Sequence[int]] | None = None,
        width: int = 32,
        most: int = MOST,
    ) -> None:
        super().__init__(sizes, alike)
        planes = range(len(self.sizes))
        if given is None:
            given = [[k - 1] if k else [] for k in planes]
        if not 1 <= most <= MOST or not 1 <= width <= 512:
            raise ModelError(
                f"most is {most} and width {width}; expected 1 to {MOST} and to 512"
            )
        self.books: list[Book] = []
        rows = [0, 0]
        for kind in dict.fromkeys(self.alike):
            mine = [k for k in planes if self.alike[k] == kind]
            book = Book(self.sizes[mine[0]], mine, most)
            book.above = [tuple(given[k]) for k in mine]
            for slot in book.above[0]:
                book.embed.append(slice(rows[0], rows[0] + self.sizes[slot]))
                rows[0] = book.embed[-1].stop
            if book.embed:
                rest = book.blocks * BLOCK or book.size
                book.out = slice(rows[1], rows[1] + rest)
                book.first = slice(book.out.stop, book.out.stop + book.blocks)
                rows[1] = book.first.stop
            self.books.append(book)
        self.rows, self.width = (rows[0], rows[1]), width
        for name, count in zip(("embed", "out"), self.rows, strict=True):
            self.register_buffer(name, torch.zeros((count, width), dtype=torch.int8))
        shift = torch.zeros((len(self.books), 2), dtype=torch.int8)
        self.register_buffer("shift", shift)

    def fit(
        self,
        codes: Sequence[np.ndarray],
        *,
        steps: int | None = None,
        seed: int = 0,
        progress: Callable[[int, float], None] | None = None,
    ) -> None:
        """Count, then learn E and O from training sequences (L, F); reproducible.

        What is kept of all steps cost held-out sequences least; nothing, where order 0
        did.
        """
        steps = STEPS if steps is None else steps
        super().fit(codes, progress=progress)
        columns, held = (
            np.concatenate(part, axis=1) for part in self.apart(self.sequences(codes))
        )
        rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            torch.manual_seed(seed)
            network = Conditional(self.rows, self.width)
            best = dict.fromkeys(range(len(self.books)), np.inf)
            self._try(0, best, network, held, seed)
            if not self.rows[0]:
                return
            adam = torch.optim.Adam(network.parameters(), lr=RATE)
            for step in range(steps):
                adam.param_groups[0]["lr"] = RATE * (1 - step / steps)
                with torch.enable_grad():
                    nats, count = self._nats(network, columns, rng)
                    adam.zero_grad()
                    nats.backward()
                adam.step()
                if progress:
                    progress(step + 1, float(nats.detach()) / count / np.log(2))
                if (step + 1) % max(1, steps // TRIALS) == 0:
                    self._try(step + 1, best, network, held, seed)

    def code_sequence(
        self, coder: Coder, codes: Tensor | None, shape: tuple[int, int, int]
    ) -> Tensor:
        """One codebook after the other, all its planes and places side by side."""
        batch, planes, places = shape
        out = torch.zeros(shape, dtype=torch.int64)
        for number, book in enumerate(self.books):
            mine = [k for k in book.planes if k < planes]
            count = len(mine) * places
            flat = None if codes is None else codes[:, mine].reshape(batch, -1)
            got = torch.zeros((batch, count), dtype=torch.int64)
            step = max(1, LOGITS // book.size) if book.embed else max(1, count)
            for start in range(0, count, step):
                at = np.arange(start, min(start + step, count))
                value = None if flat is None else flat[:, at]
                h = self._hidden(book, out.numpy(), at, places)
                got[:, at] = self._code(coder, value, number, h, (batch, len(at)))
            out[:, mine] = got.view(batch, len(mine), places)
        return out

    def _code(
        self,
        coder: Coder,
        value: Tensor | None,
        number: int,
        h: np.ndarray,
        shape: tuple[int, int],
    ) -> Tensor:
        """Code places (B, N) of a codebook, or decode them when None; int64."""
        book = self.books[number]
        if not book.embed:
            index = torch.full((1, 1), self.alike[book.planes[0]], dtype=torch.int32)
            return coder.code(value, Indexed(self.order0, index), shape).long()
        if not book.blocks:
            prior = Categorical(self._logits(number, h))
            return coder.code(value, prior, shape).long()
        prior = Categorical(self._block_logits(number, h))
        part = None if value is None else value // BLOCK
        block = coder.code(part, prior, shape).long()
        prior = Categorical(self._logits(number, h, block.numpy()))
        part = None if value is None else value % BLOCK
        token = block * BLOCK + coder.code(part, prior, shape).long()
        if bool((token >= book.size).any()):
            raise BitstreamError(
                "the stream holds a token outside its codebook; it is corrupt, or was "
                "coded with other weights"
            )
        return token

    def _hidden(
        self, book: Book, out: np.ndarray, at: np.ndarray, places: int
    ) -> np.ndarray:
        """h (B, N, D) float32 of places ``at`` of a codebook, its planes in a row."""
        plane, place = np.divmod(at, max(places, 1))
        h = np.zeros((len(out), len(at), self.width), np.int32)
        embed = self.embed.cpu().numpy()
        for slot, rows in enumerate(book.embed):
            above = np.array([one[slot] for one in book.above])[plane]
            h += embed[rows][out[:, above, place]]
        return np.clip(h, 0, TOP).astype(np.float32)

    def _logits(
        self, number: int, h: np.ndarray, block: np.ndarray | None = None
    ) -> np.ndarray:
        """Logits int16 of tokens, (B, N, K); of those of a block (B, N), (B, N, 64)."""
        book = self.books[number]
        out = self.out[book.out].cpu().numpy().astype(np.float32)
        base = self._order0(number)
        if block is None:
            return _logits(h @ out.T, int(self.shift[number, 0]), base)
        rows = out.reshape(-1, BLOCK, self.width)[block]
        dots = (rows @ h[..., None])[..., 0]
        return _logits(dots, int(self.shift[number, 0]), base.reshape(-1, BLOCK)[block])

    def _block_logits(self, number: int, h: np.ndarray) -> np.ndarray:
        """Logits (B, N, blocks) int16."""
        book = self.books[number]
        out = self.out[book.first].cpu().numpy().astype(np.float32)
        base = self._order0(number).reshape(-1, BLOCK).sum(1)
        return _logits(h @ out.T, int(self.shift[number, 1]), base)

    def _order0(self, number: int) -> np.ndarray:
        """Frequencies of a codebook's tokens, in whole blocks if there are; int64."""
        book, tables = self.books[number], self.order0
        first = tables.first[self.alike[book.planes[0]]] + 1
        freqs = np.zeros(book.blocks * BLOCK or book.size, np.int64)
        freqs[: book.size] = tables.freqs[first : first + book.size]
        return freqs

    def _drawn(
        self, book: Book, columns: np.ndarray, count: int, rng: np.random.Generator
    ) -> tuple[list[Tensor], Tensor]:
        """Tokens (n,) of the coarser planes of some places, and their own."""
        plane = rng.integers(0, len(book.planes), count)
        place = rng.integers(0, columns.shape[1], count)
        above = np.array(book.above)[plane]
        given = [torch.from_numpy(columns[a, place]) for a in above.T]
        return given, torch.from_numpy(columns[np.array(book.planes)[plane], place])

    def _cost(
        self, network: Conditional, number: int, given: list[Tensor], tokens: Tensor
    ) -> Tensor:
        """Nats of tokens (n,) under the network and order 0."""
        book = self.books[number]
        parts = zip(book.embed, given, strict=True)
        h = F.relu(sum((network.embed[rows][t] for rows, t in parts), torch.zeros(())))
        freqs = torch.from_numpy(self._order0(number)).float()
        base, out = freqs.clamp_min(1e-9).log(), network.out[book.out]
        if not book.blocks:
            return F.cross_entropy(h @ out.T + base, tokens, reduction="sum")
        block, low = tokens // BLOCK, tokens % BLOCK
        sums = freqs.view(-1, BLOCK).sum(1).log()
        high = h @ network.out[book.first].T + sums
        rows = out.view(-1, BLOCK, self.width)[block]
        inside = torch.einsum("nkd,nd->nk", rows, h) + base.view(-1, BLOCK)[block]
        return F.cross_entropy(high, block, reduction="sum") + F.cross_entropy(
            inside, low, reduction="sum"
        )

    def _nats(
        self, network: Conditional, columns: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, int]:
        """Nats of a batch of every codebook, and its tokens."""
        total, count = torch.zeros(()), 0
        for number, book in enumerate(self.books):
            if book.embed:
                given, tokens = self._drawn(book, columns, BATCH, rng)
                total = total + self._cost(network, number, given, tokens)
                count += len(tokens)
        return total, count

    @torch.no_grad()
    def _try(
        self,
        step: int,
        best: dict[int, float],
        network: Conditional,
        held: np.ndarray,
        seed: int,
    ) -> None:
        """Keep the integers of each codebook whose held-out tokens cost less now.

        At step 0 there are none: the yardstick is order 0.
        """
        for number, book in enumerate(self.books):
            if not book.embed:
                continue
            rng = np.random.default_rng([seed, number])
            given, tokens = self._drawn(book, held, TRIED, rng)
            before = {k: getattr(self, k).clone() for k in ("embed", "out", "shift")}
            if step:
                self._keep(number, network, given)
            h = np.zeros((1, len(tokens), self.width), np.int32)
            for rows, seen in zip(book.embed, given, strict=True):
                h += self.embed[rows].cpu().numpy()[seen.numpy()]
            wide = np.clip(h, 0, TOP).astype(np.float32)
            coder = RateEstimator(1, noise=False)
            self._code(coder, tokens[None], number, wide, (1, len(tokens)))
            if float(coder.bits) < best[number]:
                best[number] = float(coder.bits)
            else:
                for name, value in before.items():
                    getattr(self, name).copy_(value)

    def _keep(self, number: int, network: Conditional, given: list[Tensor]) -> None:
        """Put a codebook's E and O on integers; tokens ``given`` (n,) fix the grid."""
        book = self.books[number]
        parts = zip(book.embed, given, strict=True)
        h = F.relu(sum((network.embed[rows][t] for rows, t in parts), torch.zeros(())))
        unit = unit_of(h, TOP)
        for rows in book.embed:
            self._integers(
                self.embed, rows, network.embed[rows].double().numpy() / unit
            )
        for place, rows in enumerate((book.out, book.first)):
            weights = network.out[rows].double().numpy() * unit * UNIT / np.log(2)
            if weights.size:
                shift = shift_for(np.abs(weights).max(keepdims=True)[0])
                self.shift[number, place] = int(shift[0])
                self._integers(self.out, rows, weights * 2.0 ** float(shift[0]))

    @staticmethod
    def _integers(buffer: Tensor, rows: slice, values: np.ndarray) -> None:
        whole = np.clip(np.rint(values), -TOP, TOP).astype(np.int8)
        buffer[rows] = torch.from_numpy(whole)


def _logits(dots: np.ndarray, shift: int, freqs: np.ndarray) -> np.ndarray:
    """⌊dots / 2^shift⌋ + 32 log2 freqs, int16, 0 the largest; NEVER where f is 0."""
    z = np.floor(np.ldexp(dots, -shift)).astype(np.int32) + log_table()[freqs]
    z[np.broadcast_to(freqs == 0, z.shape)] = -(1 << 24)
    z -= z.max(axis=-1, keepdims=True)
    never = np.broadcast_to(freqs == 0, z.shape)
    return np.where(never, NEVER, np.maximum(z, LEAST)).astype(np.int16)
