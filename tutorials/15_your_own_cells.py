# %% [markdown]
# # 15 Your own cells: an existing network, three corrected images, and a comparison that cannot flatter
#
# **You will be able to**
#
# * look at new images, and know before any training what will be hard about them;
# * use a network that others trained, and tell apart the two reasons why it fails: size and appearance;
# * choose the few images that are worth a correction, and count what a correction costs;
# * fine-tune carefully: few weights from new statistics, small steps, and no surprise;
# * compare before and after on images that nobody corrected.
#
# With your own images this takes about ten minutes, most of which you spend correcting. You need lessons 06 and 07. Every
# step is also a command of minunet, which stands beside it.

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

import minunet
from minunet.data import SyntheticCells
from minunet.data.targets import Target
from minunet.metrics.instances import ObjectCounts
from minunet.predict.diameter import known_diameter
from minunet.predict.inference import probabilities
from minunet.predict.overlay import object_outlines

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"


def bare(ax, title=""):
    """Take the ticks off a picture."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)


# %% [markdown]
# ## Look
#
# Fourteen images that no network has seen: violet cells on a grey ground, hardly darker than it, and magnified. They are
# generated, so that in the end there is a truth to compare with; with your own you would read files. Eight of them we may
# work on. The last six stay untouched until the end.


# %%
def photographed(sample):
    """Violet cells on a grey ground, two and a half times as large as they were generated: (240, 240, 3) uint8."""
    stain = ndimage.zoom(25 + 150 * sample.image[..., 0].clip(0, 1.2), 2.5, order=1)
    return (120 + stain[..., None] * [0.1, -0.5, 0.4]).clip(0, 255).astype(np.uint8)


cells = SyntheticCells(14, size=96, seed=15)
images = [photographed(sample) for sample in cells]
truths = [ndimage.zoom(sample.instances, 2.5, order=0) for sample in cells]
ours, held = range(8), range(8, 14)

figure, axes = plt.subplots(2, 4, figsize=(10, 5.3), layout="constrained")
for index, ax in zip(ours, axes.flat):
    ax.imshow(images[index])
    bare(ax, f"image {index}")
plt.show()

# %% [markdown]
# Look before you compute. Some cells are dark and some pale, so no single threshold will do. Many touch. Some are out of
# focus, and the ground is darker in one corner than in the other. And measure one thing with a ruler: how wide is a cell? Here
# about 50 pixels. `python -m minunet.doctor IMAGES -m nuclei` looks for you, too: at bit depths, sizes, saturated pixels,
# and at whether the objects have the size that the network knows.
#
# ## Use what is there
#
# minunet comes with a network that has seen thousands of nuclei, most of them bright on dark. On the command line it is
# `python -m minunet.predict -m nuclei -i IMAGES -o OUT --instances`.


# %%
def precision(found, which):
    """Precision at IoU 0.5 of all objects in some of the images, TP / (TP + FP + FN)."""
    counts = ObjectCounts()
    for index in which:
        counts.add(truths[index], found[index])
    return counts.precision(50)


nuclei = minunet.load("nuclei")
width = 48  # pixels, measured with a ruler
as_it_is = [minunet.segment_objects(nuclei, image) for image in images]
in_its_size = [minunet.segment_objects(nuclei, image, diameter=width) for image in images]
print(f"the network knows objects {known_diameter(nuclei):.0f} pixels wide, these have {width}")

figure, axes = plt.subplots(2, 4, figsize=(10, 5.3), layout="constrained")
for found, row, title in ((as_it_is, axes[0], "as it is"), (in_its_size, axes[1], "resized")):
    for index, ax in zip(ours, row):
        ax.imshow(object_outlines(images[index], found[index]))
        bare(ax, f"{title}: {found[index].max()} for {truths[index].max()}")
plt.show()

# %% [markdown]
# The first row is the commonest failure of a good network, and it looks worse than it is. A network learns objects of *one
# size*: to a filter that has only seen nuclei twenty pixels wide, a cell of fifty is a landscape, and the specks in it are
# the nuclei. Nothing must be trained for this. Shrink the image until the cells have the size that the network knows, and
# enlarge the result: `--diameter 48`, or `--diameter auto`, which tries sizes and keeps the one at which the objects look
# most like what it knows.
#
# What is left in the second row is the other reason: *appearance*. Hardly a cell that the network has seen was darker than
# its ground in one colour and brighter in another. Some are missed, others run together. This takes training.
#
# ## Choose three
#
# Correcting an image takes minutes, so correct those that teach most: not the ones where the network is right, nor ten of a
# kind, but those where it is least *sure*. A pixel's uncertainty is the entropy of its probabilities, $-\sum_c p_c \log p_c$:
# zero if one class has everything, $\log 3$ if the three classes (background, inside, border) are equally likely.

# %%
scale = known_diameter(nuclei) / width


def entropy(image):
    """How unsure the network is of each pixel, in its own size."""
    p = probabilities(nuclei, image, scale)
    return -(p * np.log(p + 1e-9)).sum(-1)


unsure = [entropy(images[index]) for index in ours]
order = np.argsort([-e.mean() for e in unsure])
chosen = [int(index) for index in order[:3]]
print("least sure of", chosen, "; mean entropy", [round(float(unsure[index].mean()), 3) for index in order])

figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
for index, ax in zip([*chosen, int(order[-1])], axes):
    shown = ax.imshow(unsure[index], cmap="magma", vmin=0, vmax=np.log(3))
    bare(ax, f"image {index}: {'corrected' if index in chosen else 'the surest'}")
figure.colorbar(shown, ax=axes, label="entropy")
plt.show()

# %% [markdown]
# ## Correct them
#
# You do not draw from nothing. `predict` wrote `X_labels.tif` for each image; open image and labels in napari (or ImageJ,
# Cellpose's or QuPath's windows), delete what is wrong, divide what ran together, paint what is missing, and save the
# labels. minunet reads label images, ImageJ's ROI archives, LabelMe's files and Cellpose's `_seg.npy`. **Finish an image, or
# leave it out**: a cell that is left unmarked is taught as background. (`--ignore VALUE` marks regions that do not count.)
#
# Here the truth plays you. What would you have had to do? An object whose IoU is above 0.7 can stay.

# %%
for index in chosen:
    counts = ObjectCounts()
    counts.add(truths[index], in_its_size[index])
    stay, drawn, gone = int(counts.tp[4]), int(counts.fn[4]), int(counts.fp[4])  # at IoU 0.7
    print(f"image {index}: {stay} stay, {drawn} are drawn or mended, {gone} go")
    assert stay + drawn == truths[index].max() and stay + gone == in_its_size[index].max()

# %% [markdown]
# ## Fine-tune
#
# From the command line: `python -m minunet.train --data MINE -f nuclei --scale 0.41`. Three images are few, and each of these
# keeps them from doing harm:
#
# * **Start from what is known.** All weights are the network's. Its first layers know edges and spots of any colour.
# * **Small steps.** `train -f` takes a third of the usual learning rate unless told otherwise. Here, with forty steps in all,
#   the usual one.
# * **Statistics stay.** Batch norm's mean and variance come from hundreds of images; three give worse ones. With
#   `freeze=["norms"]` they stay as they are, and so do the scales and shifts beside them.
# * **Augment.** Turned, mirrored, brighter, bent: that is on unless switched off (lesson 06).
#
# And beside it, to be fair to the other answer, a network of the same form trained from nothing, on the same three images,
# for as many steps.

# %%
small = [ndimage.zoom(images[index], (scale, scale, 1), order=1) for index in chosen]
marked = [ndimage.zoom(truths[index], scale, order=0) for index in chosen]
how = {
    "crop": 96,
    "batch_size": 3,
    "epochs": 40,
    "learning_rate": 1e-3,
    "validation": 0,
    "target": Target("border"),
    "seed": 0,
}

tuned = minunet.fit(small, marked, model=minunet.load("nuclei"), freeze=["norms"], **how)
fresh = minunet.fit(small, marked, model=minunet.UNet(3, 3, base_width=16, depth=4, seed=0), **how)

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for fitted, colour, name in ((tuned, BLUE, "from nuclei"), (fresh, ORANGE, "from nothing")):
    ax.plot(
        [row["epoch"] for row in fitted.history],
        [row["train_loss"] for row in fitted.history],
        color=colour,
        label=name,
    )
ax.spines[["top", "right"]].set_visible(False)
ax.set(xlabel="step", ylabel="training loss", ylim=(0, None))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Compare
#
# On the six images that were never chosen, corrected or looked at. The same score for all, and the question asked once: if
# you now go back, change the learning rate, and look again, these images have become validation images, and you need others.

# %%
after = [minunet.segment_objects(tuned.model, image, diameter=width) for image in images]
nothing = [minunet.segment_objects(fresh.model, image, diameter=width) for image in images]
answers = {
    "nuclei,\nas it is": as_it_is, "nuclei,\nin its size": in_its_size, "three images,\nfrom nothing": nothing,
    "three images,\nfrom nuclei": after,
}  # fmt: skip
scores = {name: precision(found, held) for name, found in answers.items()}

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained", width_ratios=(1.5, 1, 1))
bars = axes[0].bar(scores.keys(), scores.values(), color=[GREY, GREEN, ORANGE, BLUE])
axes[0].bar_label(bars, fmt="%.2f")
axes[0].spines[["top", "right"]].set_visible(False)
axes[0].set(ylabel="precision at IoU 0.5, six new images", ylim=(0, 1))
axes[0].tick_params(axis="x", labelsize=8)
for ax, found, title in zip(axes[1:], (in_its_size, after), ("before", "after three images")):
    ax.imshow(object_outlines(images[held[0]], found[held[0]]))
    bare(ax, f"image {held[0]}, {title}")
plt.show()
assert scores["three images,\nfrom nuclei"] > scores["nuclei,\nin its size"] > scores["nuclei,\nas it is"]
assert scores["three images,\nfrom nuclei"] > scores["three images,\nfrom nothing"]

# %% [markdown]
# Most of the way was a ruler; the rest was three images. From nothing, three images and so few steps do not get there; with
# ten times the steps they come closer, and with a hundred images it no longer matters where one began. That is what
# pretraining is: not knowledge that data cannot give, but data and minutes that you need not have.
#
# Six images are few: the score of one can carry the mean. Repeat it with another seed before you tell anybody.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** A network knows nuclei of 20 pixels; your cells are 50 pixels wide. By which factor do you shrink the images,
# and what does that do to the time?
#
# <details>
# <summary>Answer</summary>
#
# By $20 / 50 = 0.4$. There are $0.4^2 = 0.16$ times as many pixels, so it takes about a sixth of the time. The outline
# gets coarser: a pixel of the answer is 2.5 of yours.
#
# </details>
#
# **2.** Of three classes a pixel has the probabilities (1/3, 1/3, 1/3), another (1/2, 1/2, 0). Which is less sure, and
# why might an image full of the second kind be the better one to correct?
#
# <details>
# <summary>Answer</summary>
#
# The first: $\log 3 = 1.10$ against $\log 2 = 0.69$. But entropy does not say what is undecided. Half inside and half
# border along all outlines is a question that a correction answers; a blank, blurred corner may be undecidable for you,
# too.
#
# </details>
#
# **3.** You correct an image, but leave out the cells in its lower half, where you were tired. What does the network learn?
#
# <details>
# <summary>Answer</summary>
#
# That such cells are background: each unmarked cell is a wrong label, with as much weight as a right one. Crop the image to
# the half that is done, or mark the rest with a value and give it to `--ignore`.
#
# </details>
#
# ## Exercises
#
# Each with a check:
#
# 1. **Which three?** Choose the three *surest* images instead, and three by chance, and fine-tune again. *Check:* compare
#    `precision(found, held)` of each; with one seed, is the difference larger than between two seeds of the same choice?
# 2. **Forgetting.** What has the tuned network lost? Let it segment `SyntheticCells(4, size=96, seed=3)` as bright cells on
#    dark (three equal channels), and the old one, too. *Check:* the two precisions, before and after.
# 3. **Thawed norms.** Fine-tune without `freeze=["norms"]`. *Check:* the training loss, and the precision on `held`: do they
#    agree on which is better?
# 4. **One image.** Make a learning curve: 1, 2, 3, 5 and 8 corrected images, in the order of `order`. *Check:* a plot whose
#    axis of images is logarithmic; where does it flatten?
