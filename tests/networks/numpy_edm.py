"""The published EDM networks in plain numpy and float64, on released parameter names.

Written from the papers' descriptions (EDM appendix F, Song et al. 2021, Dhariwal and Nichol 2021) with
loops and sums instead of library calls; shares nothing with the code under test.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def conv(x, weight, pad):
    """Correlation with zero padding, by a sum over the filter's positions."""
    height, width = x.shape[2] + 2 * pad, x.shape[3] + 2 * pad
    padded = np.zeros((*x.shape[:2], height, width))
    padded[:, :, pad : height - pad, pad : width - pad] = x
    rows, columns = height - weight.shape[2] + 1, width - weight.shape[3] + 1
    out = np.zeros((x.shape[0], weight.shape[0], rows, columns))
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            window = padded[:, :, i : i + rows, j : j + columns]
            out += np.einsum("oc,bchw->bohw", weight[:, :, i, j], window)
    return out


def depthwise(x, taps, pad):
    """Every channel on its own with the same filter."""
    return np.concatenate([conv(x[:, c : c + 1], taps[None, None], pad) for c in range(x.shape[1])], 1)


def halve(x, taps, pad):
    return depthwise(x, taps, pad)[:, :, ::2, ::2]


def double(x, taps, margin):
    """Each pixel puts 4 · taps at twice its position; ``margin`` pixels are cut off all round."""
    batch, channels, height, width = x.shape
    size = len(taps)
    out = np.zeros((batch, channels, 2 * (height - 1) + size, 2 * (width - 1) + size))
    for i in range(height):
        for j in range(width):
            out[:, :, 2 * i : 2 * i + size, 2 * j : 2 * j + size] += 4 * x[:, :, i, j, None, None] * taps
    return out[:, :, margin : out.shape[2] - margin, margin : out.shape[3] - margin]


def group_norm(x, weight, bias, eps):
    channels = x.shape[1]
    groups = min(32, channels // 4)
    size = channels // groups
    out = np.empty_like(x)
    for b in range(len(x)):
        for g in range(groups):
            part = x[b, g * size : (g + 1) * size]
            out[b, g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return out * weight[:, None, None] + bias[:, None, None]


class Released:
    """A network by its released parameters and the arguments of its released class."""

    def __init__(self, parameters, **config):
        self.p = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
        self.c = config

    def linear(self, name, x):
        out = x @ self.p[f"{name}.weight"].T
        return out + self.p[f"{name}.bias"] if f"{name}.bias" in self.p else out

    def learned(self, name, x, pad):
        features = conv(x, self.p[f"{name}.weight"], pad)
        if f"{name}.gate_weight" in self.p:
            features = features * sigmoid(sigmoid(conv(x, self.p[f"{name}.gate_weight"], pad)))
        return features

    def convolution(self, name, x, resample="", fused=False):
        kernel = self.p[f"{name}.weight"].shape[2] if f"{name}.weight" in self.p else 0
        taps = np.asarray(self.c.get("resample_filter", [1, 1]), np.float64)
        taps = np.outer(taps, taps) / taps.sum() ** 2
        edge, pad = (len(taps) - 1) // 2, kernel // 2
        if fused:
            x = halve(self.learned(name, x, pad + edge), taps, 0)
        else:
            x = {"up": double, "down": halve}[resample](x, taps, edge) if resample else x
            x = self.learned(name, x, pad) if kernel else x
        return x + self.p[f"{name}.bias"][:, None, None] if kernel else x

    def norm(self, name, x, eps):
        return group_norm(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"], eps)

    def attention(self, name, x, heads):
        qkv = self.convolution(f"{name}.qkv", self.norm(f"{name}.norm2", x, self.eps))
        batch, channels, height, width = x.shape
        mixed = np.zeros((batch, channels, height * width))
        size = channels // heads
        for b in range(batch):
            for h in range(heads):
                rows = qkv[b].reshape(heads, size, 3, height * width)[h]
                query, key, value = rows[:, 0], rows[:, 1], rows[:, 2]
                logits = query.T @ key / np.sqrt(size)
                weights = np.exp(logits - logits.max(1, keepdims=True))
                weights /= weights.sum(1, keepdims=True)
                mixed[b, h * size : (h + 1) * size] = value @ weights.T
        return self.convolution(f"{name}.proj", mixed.reshape(x.shape))

    def block(self, name, x, emb, resample=""):
        skip = x
        if f"{name}.skip.weight" in self.p or resample:
            skip = self.convolution(f"{name}.skip", x, resample)
        y = self.convolution(f"{name}.conv0", silu(self.norm(f"{name}.norm0", x, self.eps)), resample)
        affine = self.linear(f"{name}.affine", emb)[:, :, None, None]
        if self.adaptive:
            scale, shift = np.split(affine, 2, 1)
            y = silu(self.norm(f"{name}.norm1", y, self.eps) * (1 + scale) + shift)
        else:
            y = silu(self.norm(f"{name}.norm1", y + affine, self.eps))
        y = (self.convolution(f"{name}.conv1", y) + skip) * self.scale
        if f"{name}.qkv.weight" in self.p:
            y = (y + self.attention(name, y, self.heads(y.shape[1]))) * self.scale
        return y

    def levels(self):
        count = len(self.c["channel_mult"])
        return [
            (level, f"{self.c['resolution'] >> level}x{self.c['resolution'] >> level}")
            for level in range(count)
        ]


class Song(Released):
    eps, scale, adaptive = 1e-6, np.sqrt(0.5), False

    def heads(self, channels):
        return 1

    def embedding(self, noise, labels, augment):
        half = self.c["model_channels"] * self.c.get("channel_mult_noise", 1) // 2
        if "model.map_noise.freqs" in self.p:
            angle = np.outer(noise, 2 * np.pi * self.p["model.map_noise.freqs"])
        else:
            angle = np.outer(noise, 10000.0 ** -(np.arange(half) / (half - 1)))
        emb = np.concatenate([np.sin(angle), np.cos(angle)], 1)
        if "model.map_label.weight" in self.p:
            emb = emb + self.linear("model.map_label", labels * np.sqrt(labels.shape[1]))
        if augment is not None:
            emb = emb + self.linear("model.map_augment", augment)
        return silu(self.linear("model.map_layer1", silu(self.linear("model.map_layer0", emb))))

    def __call__(self, x, noise, labels=None, augment=None):
        emb = self.embedding(noise, labels, augment)
        skips = self.encode(x, emb)
        out = self.decode(skips[-1], skips, emb)
        assert not skips
        return out

    def encode(self, x, emb):
        aside = x
        x = self.convolution(f"model.enc.{self.levels()[0][1]}_conv", x)
        skips = [x]
        for level, size in self.levels():
            if level:
                x = self.block(f"model.enc.{size}_down", x, emb, "down")
                if self.c.get("encoder_type") == "skip":
                    aside = self.convolution(f"model.enc.{size}_aux_down", aside, "down")
                    x = x + self.convolution(f"model.enc.{size}_aux_skip", aside)
                if self.c.get("encoder_type") == "residual":
                    down = self.convolution(f"model.enc.{size}_aux_residual", aside, fused=True)
                    x = aside = (x + down) / np.sqrt(2)
                skips.append(x)
            for index in range(self.c["num_blocks"]):
                x = self.block(f"model.enc.{size}_block{index}", x, emb)
                skips.append(x)
        return skips

    def decode(self, x, skips, emb):
        out = 0
        for level, size in self.levels()[::-1]:
            if level == len(self.levels()) - 1:
                x = self.block(f"model.dec.{size}_in0", x, emb)
                x = self.block(f"model.dec.{size}_in1", x, emb)
            else:
                x = self.block(f"model.dec.{size}_up", x, emb, "up")
            for index in range(self.c["num_blocks"] + 1):
                x = self.block(f"model.dec.{size}_block{index}", np.concatenate([x, skips.pop()], 1), emb)
            skip = self.c.get("decoder_type") == "skip"
            if skip and level < len(self.levels()) - 1:
                out = self.convolution(f"model.dec.{size}_aux_up", out, "up")
            if skip or level == 0:
                normed = silu(self.norm(f"model.dec.{size}_aux_norm", x, self.eps))
                out = out + self.convolution(f"model.dec.{size}_aux_conv", normed)
        return out


class Dhariwal(Released):
    eps, scale, adaptive = 1e-5, 1.0, True

    def heads(self, channels):
        return channels // 64

    def embedding(self, noise, labels, augment):
        half = self.c["model_channels"] // 2
        angle = np.outer(noise, 10000.0 ** -(np.arange(half) / half))
        emb = np.concatenate([np.cos(angle), np.sin(angle)], 1)
        if augment is not None:
            emb = emb + self.linear("model.map_augment", augment)
        emb = self.linear("model.map_layer1", silu(self.linear("model.map_layer0", emb)))
        if labels is not None:
            emb = emb + self.linear("model.map_label", labels)
        return silu(emb)

    def __call__(self, x, noise, labels=None, augment=None):
        emb = self.embedding(noise, labels, augment)
        x = self.convolution(f"model.enc.{self.levels()[0][1]}_conv", x)
        skips = [x]
        for level, size in self.levels():
            if level:
                x = self.block(f"model.enc.{size}_down", x, emb, "down")
                skips.append(x)
            for index in range(self.c["num_blocks"]):
                x = self.block(f"model.enc.{size}_block{index}", x, emb)
                skips.append(x)
        for level, size in self.levels()[::-1]:
            if level == len(self.levels()) - 1:
                x = self.block(f"model.dec.{size}_in0", x, emb)
                x = self.block(f"model.dec.{size}_in1", x, emb)
            else:
                x = self.block(f"model.dec.{size}_up", x, emb, "up")
            for index in range(self.c["num_blocks"] + 1):
                x = self.block(f"model.dec.{size}_block{index}", np.concatenate([x, skips.pop()], 1), emb)
        assert not skips
        return self.convolution("model.out_conv", silu(self.norm("model.out_norm", x, self.eps)))


def preconditioned(kind, network, x, sigma, labels=None, augment=None):
    """EDM table 1; the network's first channels are the image."""
    s = np.asarray(sigma, np.float64)
    if kind == "edm":
        total = s**2 + 0.25
        skip, out, scale, noise = 0.25 / total, s * 0.5 / np.sqrt(total), 1 / np.sqrt(total), np.log(s) / 4
    elif kind == "vp":
        time = (np.sqrt(0.01 + 39.8 * np.log(1 + s**2)) - 0.1) / 19.9
        skip, out, scale, noise = np.ones_like(s), -s, 1 / np.sqrt(1 + s**2), 999 * time
    elif kind == "ve":
        skip, out, scale, noise = np.ones_like(s), s, np.ones_like(s), np.log(s / 2)
    else:
        u = iddpm_levels()
        nearest = np.abs(u[None] - s[:, None]).argmin(1)
        skip, out, scale, noise = np.ones_like(s), -s, 1 / np.sqrt(1 + s**2), 999.0 - nearest
    raw = network(scale[:, None, None, None] * x, noise, labels, augment)
    channels = raw.shape[1] // 2 if kind == "iddpm" else raw.shape[1]
    return skip[:, None, None, None] * x[:, :channels] + out[:, None, None, None] * raw[:, :channels]


def iddpm_levels(steps=1000):
    """u_j of EDM table 1, third column, by downward recursion."""
    alpha_bar = np.sin(np.pi / 2 * np.arange(steps + 1) / steps / 1.008) ** 2
    u = np.zeros(steps + 1)
    for j in range(steps, 0, -1):
        u[j - 1] = np.sqrt((u[j] ** 2 + 1) / max(alpha_bar[j - 1] / alpha_bar[j], 0.001) - 1)
    return u
