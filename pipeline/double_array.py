"""A map over Unicode's code points as a double-array trie over their UTF-8 bytes.

The layout of its uint32 units is darts-clone's (https://github.com/s-yata/darts-clone), which tensorflow-text reads:

    bits 0-7    label: the byte that leads to this node
    bit 8       the node has a value
    bits 10-30  offset
    bit 31      the unit is a value (bits 0-30), or nobody's

The child of node i by byte b is unit i ^ offset ^ b, if its label is b; the value of node i is unit i ^ offset.
Nothing in that limits a child to one parent. So the trie is folded as Unicode's tables usually are: blocks of 64 units,
one for each possible continuation byte, and alike blocks and alike values stored once.
"""

import numpy as np

CODE_POINTS = 0x110000
_BLOCK = 64
_HAS_VALUE = 1 << 8
_VALUE = 1 << 31  # no byte is a label with this bit, so it also marks unused units


def double_array(values: np.ndarray) -> np.ndarray:
    """The trie of all code points whose value is not zero.

    Args:
        values: uint32 [CODE_POINTS], below 2**31; zero for "not in the trie". Code point 0 has no place in it.

    Returns:
        uint32 units; the root is unit 0.
    """
    leaves, leaf_block = _fold(values.reshape(-1, _BLOCK))
    middles, middle_block = _fold(leaf_block.reshape(-1, _BLOCK))
    uppers, upper_block = _fold(np.pad(middle_block, (0, -len(middle_block) % _BLOCK)).reshape(-1, _BLOCK))

    # Units: the root, alone in a first quarter kilobyte; its 256 children; the blocks of each level; the values.
    root = 256
    first_leaf = root + 256
    first_middle = first_leaf + leaves.size
    first_upper = first_middle + middles.size
    distinct, which = np.unique(leaves, return_inverse=True)
    ascii_distinct, ascii_which = np.unique(values[:128], return_inverse=True)
    first_value = first_upper + uppers.size
    first_ascii_value = first_value + len(distinct)
    units = np.full(first_ascii_value + len(ascii_distinct), _VALUE, np.int64)
    units[0] = root << 10
    units[first_value:first_ascii_value] = _VALUE | distinct.astype(np.int64)
    units[first_ascii_value:] = _VALUE | ascii_distinct.astype(np.int64)

    def link(nodes: np.ndarray, labels: np.ndarray, targets: np.ndarray, exists: np.ndarray, flag: int = 0) -> None:
        units[nodes[exists]] = (labels | flag | (nodes ^ targets) << 10)[exists]

    def children(first: int, blocks: np.ndarray) -> np.ndarray:
        # Continuation bytes are 0x80 to 0xBF and blocks are aligned: (start ^ 0x80) ^ byte runs through the block.
        return (first + (blocks - 1) * _BLOCK) ^ 0x80

    def nodes(first: int, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return first + np.arange(blocks.size), 0x80 | np.arange(blocks.size) % _BLOCK

    link(*nodes(first_leaf, leaves), first_value + which.ravel(), leaves.ravel() > 0, _HAS_VALUE)
    link(*nodes(first_middle, middles), children(first_leaf, middles.ravel()), middles.ravel() > 0)
    link(*nodes(first_upper, uppers), children(first_middle, uppers.ravel()), uppers.ravel() > 0)
    one = np.arange(1, 128)
    link(root ^ one, one, first_ascii_value + ascii_which[1:], values[1:128] > 0, _HAS_VALUE)
    # The first bytes of sequences of two, three and four.
    two, three, four = np.arange(0xC2, 0xE0), np.arange(0xE0, 0xF0), np.arange(0xF0, 0xF5)
    for lead, first, blocks in (
        (two, first_leaf, leaf_block[two & 0x1F]),
        (three, first_middle, middle_block[three & 0x0F]),
        (four, first_upper, upper_block[four & 0x07]),
    ):
        link(root ^ lead, lead, children(first, blocks), blocks > 0)
    if len(units) > 1 << 21:
        raise ValueError(f"the trie has {len(units)} units, more than 21-bit offsets can address")
    return units.astype(np.uint32)


def _fold(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows that are not all zero, and for each given row the number of its own, from 1 (0: all zero)."""
    numbers = {bytes(rows[0].nbytes): 0}
    number = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows])
    return np.frombuffer(b"".join(list(numbers)[1:]), rows.dtype).reshape(-1, _BLOCK), number
