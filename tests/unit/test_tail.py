"""Reading along in a file that grows, is cut, and grows again."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sheafalign_fl.files import Tail

actions = st.lists(
    st.tuples(st.sampled_from(["add", "cut and add"]), st.integers(0, 4), st.integers(0, 5)),
    max_size=8,
)


@given(actions)
def test_what_is_read_is_what_the_file_holds(
    tmp_path_factory: object, steps: list[tuple[str, int, int]]
) -> None:
    path = Path(tmp_path_factory.mktemp("tail")) / "file"  # type: ignore[attr-defined]
    tail, seen, content, number = Tail(path), list[bytes](), list[bytes](), 0
    for what, kept, more in steps:
        if what == "cut and add":  # all of it between two looks
            content = content[:kept]
        for _ in range(more):
            number += 1
            content.append(b"%d " % number * (number % 3 + 1) + b"\n")
        path.write_bytes(b"".join(content) + b"half a line")
        lines, anew = tail.lines()
        seen = lines if anew else seen + lines
        assert seen == content
