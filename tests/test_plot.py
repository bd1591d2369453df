"""Pictures of attention: what is drawn, read from the figure, and that it is written."""

import numpy as np
import pytest

from keras_attn import plot

T, S, N, B = 5, 7, 3, 2


def weights(*shape):
    x = np.random.default_rng(0).random(shape)
    return x / x.sum(axis=-1, keepdims=True)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws, and returns the figure's maps as `(weights, queries, keys, caption)`."""
    figures, write = [], plot._write

    def keep(figure, path):
        figures.append(figure)
        write(figure, path)

    monkeypatch.setattr(plot, "_write", keep)

    def draw(scores, **kwargs):
        path = tmp_path / "attention.png"
        plot.attention(scores, path, **kwargs)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert [file.name for file in tmp_path.iterdir()] == ["attention.png"]
        figure = figures[-1]
        *panels, bar = [axes for axes in figure.axes if axes.axison]
        assert bar.get_ylabel() == "weight"
        draw.title = figure._suptitle and figure._suptitle.get_text()
        return [
            (
                axes.images[0].get_array().data,
                [label.get_text() for label in axes.get_yticklabels()],
                [label.get_text() for label in axes.get_xticklabels()],
                axes.get_title(),
            )
            for axes in panels
        ]

    return draw


def test_one_map_with_its_labels(drawn):
    scores = weights(T, S)
    [(image, queries, keys, caption)] = drawn(scores, queries="abcde", keys="αβγδεжש", title="who → whom")
    np.testing.assert_array_equal(image, scores)
    assert (queries, keys, caption, drawn.title) == (list("abcde"), list("αβγδεжש"), "", "who → whom")


def test_the_mean_over_heads_or_each(drawn):
    scores = weights(N, T, S)
    [(image, *_)] = drawn(scores)
    np.testing.assert_allclose(image, scores.mean(axis=0))
    panels = drawn(scores, heads="all", queries="abcde")
    np.testing.assert_array_equal([panel[0] for panel in panels], scores)
    assert [panel[3] for panel in panels] == ["head 0", "head 1", "head 2"]
    assert all(panel[1] == list("abcde") for panel in panels)


def test_a_row_of_the_batch(drawn):
    scores = weights(B, N, T, S)
    [(image, *_)] = drawn(scores, row=1)
    np.testing.assert_allclose(image, scores[1].mean(axis=0))


def layers():
    shapes = {"encoder_0/self": (S, S), "decoder_0/self": (T, T), "decoder_0/cross": (T, S)}
    return {f"model/{name}/attention": weights(B, N, *shape) for name, shape in shapes.items()}


def test_layers_under_names_without_what_they_share(drawn):
    maps = layers()
    panels = drawn(maps, keys={"model/decoder_0/cross/attention": "ABCDEFG"})
    for (image, *_), scores in zip(panels, maps.values(), strict=True):
        np.testing.assert_allclose(image, scores[0].mean(axis=0))
    assert [panel[3] for panel in panels] == ["encoder_0/self", "decoder_0/self", "decoder_0/cross"]
    assert panels[2][2] == list("ABCDEFG")
    assert panels[0][2] != list("ABCDEFG")


def test_layers_by_heads(drawn):
    maps = layers()
    panels = drawn(maps, heads="all")
    np.testing.assert_array_equal(panels[4][0], maps["model/decoder_0/self/attention"][0, 1])
    assert panels[4][3] == "decoder_0/self\nhead 1"
    assert len(panels) == 3 * N


def test_one_colour_scale_for_all_panels(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plot, "_write", lambda figure, path: figures.append(figure))
    plot.attention({"a": np.full((2, 2), 0.25), "b": np.full((2, 2), 0.75)}, tmp_path / "x.png")
    limits = {axes.images[0].get_clim() for axes in figures[0].axes if axes.images}
    assert limits == {(0.0, 0.75)}


@pytest.mark.parametrize("names", [["a/b"], ["m/a/x", "m/b/x"], ["m/a/x", "m/a/x#2"], ["a", "a/b"]])
def test_short_names_stay_apart(names):
    short = plot._distinct_parts(names)
    assert all(short)
    assert len(set(short)) == len(names)


@pytest.mark.parametrize(
    ("scores", "arguments", "message"),
    [
        (np.ones(3), {}, r"`scores` must have rank 2, 3 or 4. Received: shape \(3,\)"),
        ({"deep": np.ones((1, 1, 1, 1, 1))}, {}, "for 'deep'"),
        ({}, {}, "`scores` must contain"),
        (np.ones((T, S)), {"queries": "abc"}, "`queries` must have 5 labels. Received: 3"),
        ({"x": np.ones((T, S))}, {"keys": "abc"}, "`keys` must have 7 labels for 'x'. Received: 3"),
        (np.ones((T, S)), {"heads": "some"}, "`heads` must be 'mean' or 'all'. Received: heads='some'"),
        (np.ones((B, N, T, S)), {"row": B}, "`row` must be one of the 2 rows"),
    ],
)
def test_bad_arguments(scores, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plot.attention(scores, tmp_path / "x.png", **arguments)
    assert not list(tmp_path.iterdir())


def test_curves_stand_beside_their_validation(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plot, "_write", lambda figure, path: figures.append(figure))
    plot.curves({"loss": [3, 2], "bleu": [1, 5], "val_loss": [4, 3]}, tmp_path / "x.png", x=[10, 20], xlabel="step")
    loss, bleu = figures[0].axes
    assert [(line.get_label(), line.get_ydata().tolist()) for line in loss.lines] == [
        ("training", [3, 2]),
        ("validation", [4, 3]),
    ]
    assert bleu.get_title() == "bleu"
    assert bleu.lines[0].get_xdata().tolist() == [10, 20]
    assert bleu.get_xlabel() == "step"


@pytest.mark.parametrize(
    ("history", "x", "message"),
    [({}, None, "`history` must not be empty"), ({"loss": [1, 2]}, [1], "`x` must be as long .* Received: 1 numbers")],
)
def test_curves_refuse(history, x, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plot.curves(history, tmp_path / "x.png", x=x)


def test_weights_over_images(monkeypatch, tmp_path):
    figures, write = [], plot._write
    monkeypatch.setattr(plot, "_write", lambda figure, path: (figures.append(figure), write(figure, path)))
    images, shares = np.random.default_rng(0).uniform(0, 255, (B, 6, 8, 1)), weights(B, 3, 4)
    plot.image_attention(images, shares, tmp_path / "attention.png", titles=["cat", "dog"])
    axes = figures[0].axes
    assert [place.get_title() for place in axes] == ["cat", "dog", "", ""]
    assert [len(place.images) for place in axes] == [1, 1, 2, 2]
    for image, share, place in zip(images, shares, axes[B:], strict=True):
        below, above = place.images
        np.testing.assert_array_equal(below.get_array()[..., 0], image[..., 0].astype("uint8"))
        np.testing.assert_array_equal(above.get_array(), share)
        assert above.get_extent() == below.get_extent()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.ones((6, 8, 3))}, r"`images` must have shape .*\(6, 8, 3\)"),
        ({"weights": np.ones((1, 3, 4))}, r"`weights` must have shape \(2, rows, columns\).*\(1, 3, 4\)"),
        ({"titles": ["cat"]}, "`titles` must have 2 entries. Received: 1"),
    ],
)
def test_bad_images_or_weights(tmp_path, change, message):
    arguments = {"images": np.ones((B, 6, 8, 3)), "weights": np.ones((B, 3, 4))} | change
    with pytest.raises(ValueError, match=message):
        plot.image_attention(path=tmp_path / "attention.png", **arguments)
