"""Whether bytes are UTF-8."""

from hypothesis import given
from hypothesis import strategies as st

from asynckit.tokenization.inputs.utf8 import is_utf8


@given(
    data=st.one_of(
        st.binary(max_size=20),
        st.text(max_size=20).map(str.encode),
        st.text(st.characters(), max_size=9).map(lambda text: text.encode("utf-8", "surrogatepass")),
    )
)
def test_it_is_what_python_can_decode(data: bytes) -> None:
    """The fast check agrees with Python about overlong forms, surrogates and what is cut off."""
    try:
        data.decode()
    except UnicodeDecodeError:
        assert not is_utf8(data)
    else:
        assert is_utf8(data)
