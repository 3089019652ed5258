"""`make paper`: the runs that a page cannot wait for, at the size of the papers; `make paper ONLY=NAME` runs one.

Each writes `book/data/NAME.json` when it is whole. What is done is kept in `_build/paper`, and an interrupted run goes on there.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from tqdm.auto import tqdm

from paths import BOOK, BUILD
from physgen import distances, errorbars, results
from physgen.diffusion.processes import ou_step
from physgen.energies import adversarial
from physgen.exact import gaussian
from physgen.memories import hopfield
from physgen.memorization import collapse, images, networks
from physgen.memorization import generalization as learning
from physgen.scales import multiscale, phi4, photographs, renormalization, wavelets


def hopfield_phase_diagram() -> None:
    """Overlap after 100 sweeps from a stored pattern, N = 10⁴, four networks a point."""
    loads = [0.01, 0.03, 0.05, 0.07, 0.09, 0.11, 0.13, 0.15, 0.17]
    temperatures = [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85]
    n_spins, sweeps, replicas, seed = 10_000, 100, 4, 1
    with ThreadPoolExecutor() as pool:

        def overlaps(k: int, load: float) -> list:
            row = hopfield.phase_diagram_sweep(
                torch.tensor([load]),
                torch.tensor(temperatures),
                n_spins,
                sweeps=sweeps,
                replicas=replicas,
                seed=seed + k,
                executor=pool,
            )
            return [row.mean[0].tolist(), row.error[0].tolist()]

        rows, seconds = in_parts("hopfield_phase_diagram", [(load,) for load in loads], overlaps)
    write(
        "hopfield_phase_diagram",
        "mean overlap with the stored pattern and its standard error, on a grid of loads and temperatures",
        seconds,
        seed,
        {
            "n_spins": n_spins,
            "sweeps": sweeps,
            "replicas": replicas,
            "loads": loads,
            "temperatures": temperatures,
            "mean": [[round(x, 6) for x in row[0]] for row in rows],
            "error": [[round(x, 6) for x in row[1]] for row in rows],
        },
    )


def unet_mnist() -> None:
    """A U-Net of 361,316 weights on the digits 1 and 8."""
    _unet("mnist", (1, 8))


def unet_fashion() -> None:
    """The same on T-shirts and ankle boots."""
    _unet("fashion", (0, 9), steps=3000)


def _unet(name: str, classes: tuple[int, int], steps: int = 5000, seed: int = 1) -> None:
    torch.set_num_threads(1)  # its rounding is part of the result
    data, own = images.load(name, classes), torch.Generator().manual_seed(seed)

    def watch(model: networks.UNet) -> dict:
        with torch.no_grad():
            parts = {"train": data.images[:1000], "test": data.test[:1000]}
            return {
                k: networks.velocity_loss(model, a, torch.Generator().manual_seed(2)).item()
                for k, a in parts.items()
            }

    run, state = f"unet_{name}", BUILD / "paper" / f"unet_{name}.pt"
    model = networks.UNet(data.shape[0], mean=data.mean, generator=own)
    trained = networks.train(model, data.images, steps, generator=own, checkpoint=state, watch=watch)
    network = networks.save_weights(trained.model, BOOK / "data" / f"{run}.safetensors")
    write(
        run,
        f"training of a U-Net on {len(data.images)} images of {name}, classes {classes}: loss of the steps, and of 1000 training and test images",
        trained.seconds,
        seed,
        {
            "network": network,
            "classes": list(classes),
            "history": [
                {k: v if k == "step" else round(v, 5) for k, v in h.items()} for h in trained.history
            ],
        },
    )
    state.unlink()


def gan_modes() -> None:
    """A ring of eight Gaussians: modes held by plain, penalised and packed GANs, and copying against the number of data."""
    torch.set_num_threads(1)  # its rounding is part of the result
    variants = {"plain": {}, "penalty": {"penalty": 0.1}, "pack": {"pack": 2}}
    sizes, replicas, steps, records, std, seed = [16, 64, 256, 1024], 8, 6000, 12, 0.1, 1
    tasks = [(name, 4096, records) for name in variants]
    tasks += [(name, n, 1) for name in ("plain", "penalty") for n in sizes]

    def train(k: int, name: str, n: int, times: int) -> dict:
        own, centres = torch.Generator().manual_seed(seed + k), adversarial.ring()
        data = adversarial.ring_sample(2 * n, centres, std, replicas=replicas, generator=own)
        train, held_out = data[:, :n].contiguous(), data[:, n:]
        players = adversarial.train(
            train, steps, replicas=replicas, records=times, generator=own, **variants[name]
        )
        seen = [[adversarial.occupation(x, centres, std) for x in row] for row in players.samples]
        shares = [
            adversarial.training_share(*x) for x in zip(players.samples[-1], train, held_out, strict=True)
        ]
        part = {
            "modes": [[o.modes for o in row] for row in seen],
            "coverage": [[round(o.coverage, 3) for o in row] for row in seen],
            "counts": [o.counts.tolist() for o in seen[-1]],
        }
        if times > 1:
            part["samples"] = [[round(v, 2) for v in x] for x in players.samples[-1, 0, :150].tolist()]
        else:
            part["share"] = [round(s.value, 3) for s in shares]
            part["error"] = [round(s.error, 3) for s in shares]
        return part

    parts, seconds = in_parts("gan_modes", tasks, train)
    write(
        "gan_modes",
        "modes held, coverage, final counts by nearest mode and samples of 8 GANs each on a ring; share of samples nearest to training data, against n",
        seconds,
        seed,
        {
            "std": std,
            "replicas": replicas,
            "n": 4096,
            "steps": [steps * (r + 1) // records for r in range(records)],
            "sizes": sizes,
            "runs": dict(zip(variants, parts, strict=False)),
            "copying": {"plain": parts[3 : 3 + len(sizes)], "penalty": parts[3 + len(sizes) :]},
        },
    )


def exact_images() -> None:
    """Exact clones, bounds on the information and U-turns on four pairs of classes, all images of each."""
    pairs = [("mnist", (1, 8)), ("mnist", (3, 8)), ("fashion", (0, 9)), ("fashion", (0, 6))]
    times, seed = torch.arange(1, 31, dtype=torch.float64) / 10, 1
    jobs = [
        (name, classes, job)
        for name, classes in pairs
        for job in ("law", 100, 300, 1000, 3000, None, "turns")
    ]

    def measure(k: int, name: str, classes: tuple[int, int], job) -> dict:
        run = {"law": _image_law, "turns": _image_turns}.get(job, _image_curves)
        return run(images.load(name, classes), times, job, torch.Generator().manual_seed(seed + k))

    parts, seconds = in_parts("exact_images", jobs, measure)
    write(
        "exact_images",
        "exact clones, class modes, bounds on the information and U-turns with the empirical score, on pairs of image classes; pixels in [-1, 1], centred; a curve is its means, or [means, standard errors]",
        seconds,
        seed,
        {
            "times": times.tolist(),
            "pairs": [
                {
                    "name": name,
                    "classes": list(classes),
                    **parts[7 * k],
                    "sizes": parts[7 * k + 1 : 7 * k + 6],
                    **parts[7 * k + 6],
                }
                for k, (name, classes) in enumerate(pairs)
            ],
        },
    )


def _image_law(data: images.ImageSet, times: torch.Tensor, _, own: torch.Generator) -> dict:
    """What two moments of the classes say."""
    modes, law = images.modes(data.images, data.labels), images.gaussian_classes(data.images, data.labels)
    bound = images.information_bound(times, data.test, law.log_density, 2000, own)
    theory = images.gaussian_clones(times, law, 2000, own)
    return {
        "modes": {k: round(v, 4) for k, v in modes._asdict().items() if k != "spectrum"},
        "spectrum": _rounded(modes.spectrum[:10]),
        "two_gaussians_bound": _rounded(bound),
        "two_gaussians_same_class": _rounded(theory),
    }


def _image_curves(data: images.ImageSet, times: torch.Tensor, n: int | None, own: torch.Generator) -> dict:
    """Clones of the first n images, and their cross-entropy on test images."""
    part = data if n is None else data.first(n)
    clones = images.clone_curves(times, part.images, part.labels, 1000, own)
    bound = images.information_bound(
        times, data.test, lambda x, t: collapse.log_density(x, t, part.images), 1000, own
    )
    found = {
        "n": len(part.images),
        "same_image_time": _rounded(images.crossing(times, clones.same_image, 0.5)),
        "bound_time": _rounded(images.crossing(times, bound, math.log(len(part.images)))),
    }
    if n:
        return found | {"same_image": _rounded(clones.same_image.mean)}
    distances = images.distance_curves(times, part.images, data.test, 200, own)
    return found | {
        "same_image": _rounded(clones.same_image),
        "same_image_of": _rounded(clones.same_image_of.T),
        "same_class": _rounded(clones.same_class),
        "information": _rounded(clones.information),
        "bound": _rounded(bound),
        "trained": _rounded(distances.trained.mean),
        "fresh": _rounded(distances.fresh.mean),
        "own": _rounded(distances.own),
    }


def _image_turns(data: images.ImageSet, times: torch.Tensor, _, own: torch.Generator) -> dict:
    """U-turns by the reverse diffusion, beside the exact weights at their turning points."""
    part, rows = data.first(2000), []
    for t in (0.6, 0.9, 1.2, 1.6, 2.2):
        turns = images.u_turns(t, part.images, part.labels, 250, 60, generator=own)
        means = {
            k: float(v.double().mean())
            for k, v in turns._asdict().items()
            if k.startswith(("same", "class", "image"))
        }
        rows.append({"t": t} | {k: round(v, 4) for k, v in means.items()})
    return {"turns": {"n": 2000, "samples": 250, "rows": rows}}


def _rounded(values) -> list:
    """To the digits that matter; a curve becomes its means and its errors."""
    if isinstance(values, torch.Tensor) and values.ndim < 2:
        return [float(f"{x:.4g}") for x in values.tolist()]
    return [float(f"{part:.4g}") if isinstance(part, float) else _rounded(part) for part in values]


def clones() -> None:
    """The two committed U-Nets: held-out loss, samples, clones and U-turns, each beside its exact or empirical answer."""
    torch.set_num_threads(1)
    sets = {"mnist": (1, 8), "fashion": (0, 9)}
    forks, seed = [0.8, 1.2, 1.5, 1.7, 2.0, 2.5], 1
    jobs = [(name, job) for name in sets for job in ("loss", "samples", *forks)]

    def measure(k: int, name: str, job) -> dict | list[dict]:
        data, net = images.load(name, sets[name]), networks.load_weights(f"unet_{name}")
        run = {"loss": _network_loss, "samples": _network_samples}.get(job, _network_clones)
        return run(data, net, job, torch.Generator().manual_seed(seed + k))

    parts, seconds = in_parts("clones", jobs, measure)
    each = len(jobs) // len(sets)
    write(
        "clones",
        "two trained U-Nets: loss on held-out images, distance of samples, clones and U-turns; pixels in [-1, 1], centred; [mean, standard error]",
        seconds,
        seed,
        {
            name: {
                "classes": list(sets[name]),
                "loss": parts[k * each],
                "samples": parts[k * each + 1],
                "forks": parts[k * each + 2 : (k + 1) * each],
            }
            for k, name in enumerate(sets)
        },
    )


def _network_loss(data: images.ImageSet, net: networks.UNet, _, own: torch.Generator) -> list[dict]:
    """E|v_S − v|²/d of the network, of the Gaussian with the moments of the training set, and of its empirical score."""
    mean, covariance = gaussian.fit(data.images.double())
    covariance += 1e-6 * torch.eye(len(mean))  # pixels that never change
    key, rows = torch.randint(2**31, (), generator=own).item(), []
    parts = {"test": _some(data.test, 1000, own), "train": _some(data.images, 1000, own)}
    for t in (0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0):
        scores = {
            "network": net,
            "gaussian": lambda x, t: gaussian.score(x, t, mean, covariance),
            "empirical": lambda x, t: collapse.empirical_score(x, t, data.images),
        }
        row = {"t": t}
        for part, a in parts.items():
            for kind, score in scores.items():
                noise = torch.Generator().manual_seed(key)
                row[f"{kind}_{part}"] = _digits(networks.held_out_loss(score, a, t, noise))
        rows.append(row)
    return rows


def _network_samples(data: images.ImageSet, net: networks.UNet, _, own: torch.Generator) -> dict:
    """A thousand samples, and as many of the Gaussian of the data, against the test images."""
    n, components = 1000, 40
    noise = torch.randn(n, data.images.shape[1], generator=own)
    x = networks.descend(noise, net, networks.circle_grid(4.6, 60), own)
    normal = gaussian.sample(n, *gaussian.fit(data.images.double()), own).float()
    classify = networks.nearest_class(data.images, data.labels)
    halves = _some(data.test, len(data.test), own).chunk(2)  # how far they are apart is the floor
    pairs = {"network": x, "gaussian": normal, "train": _some(data.images, n, own)}
    pairs = {kind: (sample, data.test) for kind, sample in pairs.items()} | {"floor": halves}
    found = {"n": n, "components": components}
    for kind, pair in pairs.items():
        found[kind] = {
            "frechet": round(distances.frechet(*pair, components), 3),
            "energy": round(distances.energy(*pair), 4),
        }
    share = (classify(x) == data.classes[1]).double().mean()
    found["share"] = [round(float(share), 4), round(math.sqrt(float(share * (1 - share)) / n), 4)]
    found["test_share"] = round(float((data.test_labels == data.classes[1]).double().mean()), 4)
    found["copied"] = round(float(networks.copied(x, data.images).double().mean()), 4)
    found["nearest"] = {
        kind: round(float(collapse.nearest(a, data.images).distance.mean()), 3)
        for kind, a in (("network", x), ("test", data.test))
    }
    return found


def _some(rows: torch.Tensor, n: int, own: torch.Generator) -> torch.Tensor:
    return rows[torch.randperm(len(rows), generator=own)[:n]]


def _network_clones(data: images.ImageSet, net: networks.UNet, t: float, own: torch.Generator) -> dict:
    """Clones from points of the network's own paths; clones and U-turns from held-out images; and what the training set says there."""
    n, grid = 400, networks.circle_grid(4.6, 60)
    way = torch.cat([grid[grid > t + 0.02], torch.tensor([t], dtype=torch.float64)])
    path = networks.descend(torch.randn(n, data.images.shape[1], generator=own), net, way, own)
    index = torch.randperm(len(data.test), generator=own)[:n]
    noised = ou_step(data.test[index], t, generator=own)
    classify = networks.nearest_class(data.images, data.labels)
    found = {"t": t, "n": n}
    for kind, x in (("paths", path), ("images", noised)):
        pairs = networks.clones(x, net, networks.circle_grid(t, 30), classify, own)
        exact = images.class_log_densities(x, t, data.images, data.labels).softmax(1)
        found[kind] = _share(pairs.agreement, n)
        same = exact.square().sum(1)
        found[f"{kind}_exact"] = _digits((float(same.mean()), float(same.std()) / math.sqrt(n)))
    turned = pairs.first == data.test_labels[index]
    found["turns"] = _share(float(turned.double().mean()), n)
    return found


def copying() -> None:
    """A small U-Net on n digits of 8 × 8 pixels, watched while it learns and then copies them; three networks for each n."""
    torch.set_num_threads(1)
    sizes, replicas, turns, seed = [16, 32, 64, 128], 3, 40, 1
    jobs = [(n, seed + k) for n in sizes for k in range(replicas)]
    parts, seconds = in_parts("copying", jobs, lambda k, n, key: _copying(n, turns * n, key))
    write(
        "copying",
        "U-Net(8, (32,)) on n images of digits, batch 64, constant rate: against steps the loss on training and on test images and the share of samples that are copies",
        seconds,
        seed,
        {"sizes": sizes, "replicas": replicas, "samples": 200, "runs": parts},
    )


def _copying(n: int, steps: int, seed: int) -> dict:
    data, own = images.load("digits"), torch.Generator().manual_seed(seed)
    few = data.images[torch.randperm(len(data.images), generator=own)[:n]]
    many = few.repeat(math.ceil(len(data.test) / n), 1)[: len(data.test)]

    def watch(model: networks.UNet) -> dict:
        fresh = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            train, test = (networks.velocity_loss(model, a, fresh).item() for a in (many, data.test))
        noise = torch.randn(200, few.shape[1], generator=fresh)
        samples = networks.descend(noise, model, networks.circle_grid(4.6, 30), fresh)
        return {
            "train": train,
            "test": test,
            "copied": float(networks.copied(samples, few).double().mean()),
        }

    model = networks.UNet(data.shape[0], (32,), data.mean, own)
    trained = networks.train(
        model, few, steps, rate=5e-3, decay=False, generator=own, every=steps // 20, watch=watch
    )
    curves = {
        key: [float(f"{h[key]:.4g}") for h in trained.history] for key in ("step", "train", "test", "copied")
    }
    return {"n": n, "seed": seed, **curves}


def generalization() -> None:
    """Pairs of networks on disjoint signals, against n and against steps; what they make of the same noise; random features."""
    torch.set_num_threads(1)  # its rounding is part of the result
    sizes, small, large = [8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384], slice(5), slice(5, None)
    steps = [round(10 ** (k / 8)) for k in range(8, 36)] + [30_000]
    features = [(n, 2048) for n in (32, 64, 128, 256)] + [(64, p) for p in (256, 512, 1024)]
    jobs = [("curves", sizes[half], key) for key in (1, 2) for half in (small, large)]
    jobs += [("generated", [8, 64, 512, 4096], 3), ("smallest", [8, 64], 4)]
    jobs += [("features", job, 5) for job in features]

    def measure(k: int, kind: str, job, key: int) -> dict:
        own = torch.Generator().manual_seed(key)
        if kind == "curves":
            return _fields(learning.learning_curves(job, steps, generator=own))
        if kind == "smallest":
            return _fields(learning.learning_curves(job, [300], generator=own, **SMALLEST))
        return {"generated": _generated, "features": _random_features}[kind](job, own)

    parts, seconds = in_parts("generalization", jobs, measure)
    curves = {}
    for name in ("train", "excess", "disagreement"):
        runs = [torch.cat([torch.tensor(part[name]) for part in parts[k : k + 2]], 1) for k in (0, 2)]
        each = torch.stack(runs, 2).view(len(steps), len(sizes), -1)  # halves and seeds last
        error = each.std(2) / math.sqrt(each.shape[2])
        curves[name] = {"mean": _rounded(each.mean(2)), "error": _rounded(error)}
    write(
        "generalization",
        "mean square errors of perceptrons trained on n signals with one jump, two on disjoint data and two seeds for each n (mean, standard error, [step][n]); what networks for all noises make of the same noise; gradient flow of random features",
        seconds,
        1,
        {
            "sigma": 0.3,
            "d": 16,
            "width": 128,
            "batch": 64,
            "rate": 1e-3,
            "sizes": sizes,
            "steps": steps,
            **curves,
            "generated": parts[4],
            "smallest": {"sizes": [8, 64], "steps": [300], "seed": 4, **parts[5]},
            "features": parts[6:],
        },
    )


SMALLEST = {"width": 32, "dtype": torch.float64, "draws": 500}


def _fields(curves: learning.Curves) -> dict:
    return {k: v.tolist() for k, v in curves._asdict().items()}


def _generated(sizes: list[int], own: torch.Generator, steps: int = 30_000) -> dict:
    """Four of the signals, and over a thousand how far two networks are from each other and from the exact flow."""
    made = learning.generation_test(sizes, steps, 1000, generator=own)
    apart = (made.samples[0::2] - made.samples[1::2]).square().sum(2)
    off = (made.samples - made.exact).square().sum(2).view(len(sizes), -1)
    shares = {k: getattr(made, k).double().view(len(sizes), -1) for k in ("copied", "chance")}
    return {
        "sizes": sizes,
        "steps": steps,
        "samples": [[[round(v, 3) for v in x] for x in four] for four in made.samples[:, :4].tolist()],
        "exact": [[round(v, 3) for v in x] for x in made.exact[:4].tolist()],
        **{
            k: [_digits((float(v.mean()), float(v.std()) / math.sqrt(len(v)))) for v in values]
            for k, values in {"disagreement": apart, "distance": off, **shares}.items()
        },
    }


def _random_features(job: tuple[int, int], own: torch.Generator, d: int = 32, sigma: float = 0.3) -> dict:
    """Errors of gradient flow, per dimension, and the largest eigenvalues of the features."""
    n, p = job
    frequency, times = math.sqrt(2), torch.logspace(0, 5, 26, dtype=torch.float64)
    weight = learning.random_features(p, d, frequency, own)
    data = torch.randn(n, d, generator=own, dtype=torch.float64)
    seen = learning.data_moments(data, weight, sigma)
    weights, law = learning.flow(seen, times), learning.law_moments(weight, sigma)
    eigenvalues = torch.linalg.eigvalsh(seen.second).flip(0)
    return {
        "n": n,
        "p": p,
        "d": d,
        "sigma": sigma,
        "frequency": frequency,
        "times": _rounded(times),
        "spectrum": _rounded(torch.linalg.eigvalsh(data.T @ data / n).clamp(min=0)),
        "train": _rounded(learning.flow_error(weights, seen) / d),
        "test": _rounded(learning.flow_error(weights, law) / d),
        "line": _digits((float(eigenvalues[:d].mean()), float(eigenvalues[:d].std()))),
        "table": _digits((float(eigenvalues[d:n].mean()), float(eigenvalues[d:n].std()))) if n > d else None,
    }


def ising_flow() -> None:
    """The plane Ising model near T_c: crossings of Binder's cumulant up to L = 128, couplings measured before and after blocking."""
    torch.set_num_threads(1)  # its rounding is part of the result
    seed, sizes, pairs = 1, (16, 32, 64, 128), (16, 32, 64)
    temperatures = 2.2, renormalization.CRITICAL_TEMPERATURE, 2.35
    jobs = [(_at_criticality, L) for L in sizes] + [(_crossing, L) for L in pairs]
    jobs += [(_couplings, T) for T in temperatures] + [(_exponents, 128)]

    def part(k: int, measure: Callable, size: float) -> dict:
        return measure(size, torch.Generator().manual_seed(seed + k))

    rows, seconds = in_parts("ising_flow", jobs, part)
    write(
        "ising_flow",
        "Ising model on tori by Wolff's clusters, each number with its standard error: moments at T_c, crossings of Binder's "
        "cumulant of L and 2L, couplings by pseudo-likelihood after 0 to 4 blockings by majority, exponents of the linearised flow",
        seconds,
        seed,
        {"critical": rows[:4], "crossings": rows[4:7], "couplings": rows[7:10], "exponents": rows[10]},
    )


def _at_criticality(L: int, own: torch.Generator) -> dict:
    sample = renormalization.ising_sample(
        L, renormalization.CRITICAL_TEMPERATURE, chains=64, measurements=500, generator=own
    )
    squares = errorbars.mean_and_error(sample.magnetization**2)
    return {
        "L": L,
        "energy": _six(errorbars.mean_and_error(sample.energy)[:2]),
        "m2": _six(squares[:2]),
        "binder": _six(renormalization.binder(sample.magnetization)),
        "effective": round(float(errorbars.effective_sample_size(sample.magnetization**2))),
    }


def _crossing(L: int, own: torch.Generator) -> dict:
    """L and 2L at temperatures 0.5/L around T_c, where a parabola describes the difference of the cumulants."""
    temperatures = (
        renormalization.CRITICAL_TEMPERATURE + torch.linspace(-0.5, 0.5, 5, dtype=torch.float64) / L
    )
    curves = [
        [
            renormalization.binder(
                renormalization.ising_sample(
                    size, T, chains=64, measurements=300, generator=own
                ).magnetization
            )
            for T in temperatures.tolist()
        ]
        for size in (L, 2 * L)
    ]
    return {
        "L": L,
        "temperatures": [round(T, 6) for T in temperatures.tolist()],
        "small": [_six(u) for u in curves[0]],
        "large": [_six(u) for u in curves[1]],
        "crossing": _six(renormalization.crossing(temperatures, *curves)),
    }


def _couplings(T: float, own: torch.Generator) -> dict:
    spins = renormalization.ising_sample(256, T, chains=32, measurements=24, keep=4, generator=own).spins
    out = {"T": round(T, 6), "L": 256, "nearest": [], "two": []}
    for step in range(5):
        spins = renormalization.block(spins, generator=own) if step else spins
        for name, terms in (("nearest", ("nearest",)), ("two", ("nearest", "diagonal"))):
            found = renormalization.fit_couplings(spins, terms, groups=32)
            out[name].append([_six(pair) for pair in zip(*found, strict=True)])
    return out


def _exponents(L: int, own: torch.Generator) -> dict:
    sample = renormalization.ising_sample(
        L, renormalization.CRITICAL_TEMPERATURE, chains=64, measurements=240, keep=60, generator=own
    )
    spins, out = sample.spins, {"L": L, "even": [], "odd": []}
    for _ in range(4):
        blocked = renormalization.block(spins, generator=own)
        for name in ("even", "odd"):
            found = renormalization.flow_exponent(spins, blocked, odd=name == "odd", groups=64)
            out[name].append(_six(found))
        spins = blocked
    return out


def phi4_critical() -> None:
    """The field φ⁴ near its critical point by hybrid Monte Carlo and embedded clusters: moments, Binder's cumulant, spectra, L = 128."""
    torch.set_num_threads(1)  # its rounding is part of the result
    seed, betas = 1, (0.66, 0.67, 0.675, 0.68, 0.685, 0.69, 0.70)
    # Records of 16 chains each; at L = 128 and 0.68 that is seven thousand effective values of M².
    jobs = [(L, beta, n) for L, n in ((8, 3000), (16, 3000), (32, 2000), (64, 800)) for beta in betas]
    jobs += [(128, 0.675, 400), (128, 0.68, 2000), (128, 0.685, 400)]

    def part(k: int, L: int, beta: float, records: int) -> dict:
        return _phi4(L, beta, records, torch.Generator().manual_seed(seed + k))

    rows, seconds = in_parts("phi4_critical", jobs, part)
    binder = {row["L"]: [] for row in rows}
    for row in rows:
        binder[row["L"]].append(renormalization.Estimate(*row["binder"]))
    crossings = []
    for small, large in ((8, 16), (16, 32), (32, 64)):
        inner = slice(1, -1) if large > 32 else slice(None)  # a cubic follows the curves there
        found = renormalization.crossing(
            torch.tensor(betas[inner], dtype=torch.float64), binder[small][inner], binder[large][inner], 3
        )
        crossings.append({"small": small, "large": large, "beta": _six(found)})
    write(
        "phi4_critical",
        "φ⁴ on tori (convention B) by hybrid Monte Carlo with embedded clusters, 16 chains: [mean, standard error, τ_int in trajectories] "
        "of observables, effective values of M², Binder's cumulant [value, error] and its crossings; near 0.68 radial spectra and "
        "histograms of φ with standard errors; last fields of 8 chains at L = 128 in phi4_fields.npz, in units of 0.02",
        seconds,
        seed,
        {"betas": list(betas), "crossings": crossings, "rows": rows},
    )


def _phi4(
    L: int, beta: float, records: int, own: torch.Generator, chains: int = 16, pieces: int = 50
) -> dict:
    """Averages of one lattice; spectra and histograms of the fields at the ends of pieces of the run, their errors from the chains."""
    options = {"chains": chains, "clusters": max(2, L // 8), "step": 0.5 / math.sqrt(L), "generator": own}
    made = phi4.sample(L, beta, records=1, warmup=300, **options)
    edges, parts, powers, shares = torch.linspace(-2.4, 2.4, 65), [], [], []
    for _ in range(pieces):
        made = phi4.sample(L, beta, records=records // pieces, warmup=0, start=made.fields, **options)
        parts.append(made)
        powers.append(torch.stack([phi4.power_spectrum(x[None])[1] for x in made.fields]))
        shares.append(torch.stack([torch.histogram(x, edges).hist for x in made.fields]) / L**2 * 64 / 4.8)
    m, square, quartic, bond = (torch.cat([p[k] for p in parts], 1) for k in (1, 2, 3, 4))
    spread = errorbars.mean_and_error(square)
    std = math.sqrt(spread.mean)
    row = {
        "L": L,
        "beta": beta,
        "records": records,
        "acceptance": round(sum(p.acceptance for p in parts) / pieces, 3),
        "cluster_size": round(sum(p.cluster_size for p in parts) / pieces, 4),
        "std": _six((std, spread.error / (2 * std), spread.tau)),
        "abs_m": _six(errorbars.mean_and_error(m.abs())),
        "m2": _six(errorbars.mean_and_error(m**2)),
        "energy": _six(errorbars.mean_and_error(quartic - square - beta * bond)),
        "bond": _six(errorbars.mean_and_error(bond / 2)),
        "binder": _six(renormalization.binder(m)),
        "effective": round(float(errorbars.effective_sample_size(m**2))),
    }
    if beta == 0.68:
        wave = phi4.power_spectrum(made.fields)[0]
        for name, values in (("spectrum", powers), ("histogram", shares)):
            each = torch.stack(values).mean(0).double()
            row[name] = {"mean": _rounded(each.mean(0)), "error": _rounded(each.std(0) / math.sqrt(chains))}
        row["wavenumbers"], row["edges"] = _rounded(wave), _rounded(edges)
    if beta == 0.68 and L == 128:
        path = BOOK / "data" / "phi4_fields.npz"
        np.savez_compressed(path, fields=(made.fields[:8] / 0.02).round().to(torch.int8).numpy())
        row["fields"] = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return row


def _six(estimate) -> list[float]:
    return [round(float(v), 6) for v in estimate]


def _share(p: float, n: int) -> list[float]:
    return [round(p, 4), round(math.sqrt(p * (1 - p) / n), 4)]


def _digits(estimate) -> list[float]:
    return [float(f"{v:.4g}") for v in estimate]


def denoiser_photographs(steps: int = 4000, batch: int = 16, seed: int = 1) -> None:
    """A bias-free network on noisy pieces of eight photographs; the ninth is watched, never seen."""
    torch.set_num_threads(1)  # its rounding is part of the result
    own, state = torch.Generator().manual_seed(seed), BUILD / "paper" / "denoiser_photographs.pt"
    shown = {"train": photographs.photograph("astronaut"), "test": photographs.photograph("camera")}
    noise = torch.randn(256, 256, generator=torch.Generator().manual_seed(2))

    def watch(model: photographs.PhotographDenoiser) -> dict:
        with torch.no_grad():
            return {
                k: [round(wavelets.psnr(model(x + s * noise), x), 2) for s in (0.05, 0.1, 0.2)]
                for k, x in shown.items()
            }

    rows = photographs.training_photographs().flatten(1)
    model = photographs.PhotographDenoiser(generator=own)
    trained = networks.train(
        model,
        rows,
        steps,
        batch,
        rate=5e-3,
        generator=own,
        checkpoint=state,
        watch=watch,
        loss=photographs.denoising_loss,
    )
    record = networks.write_weights(trained.model, BOOK / "data" / "denoiser_photographs.safetensors")
    results.save(
        BOOK / "data" / "denoiser_photographs.json",
        what="training of a bias-free convolutional denoiser on 48 × 48 pieces of eight photographs, noise 0.04 to 0.3 of the range of pixels: loss of the steps, and peak signal to noise ratio in dB at noise 0.05, 0.1, 0.2 on one of them and on the ninth",
        command="make paper ONLY=denoiser_photographs",
        seconds=trained.seconds,
        seed=seed,
        values={
            "network": {"channels": model.channels, "depth": model.depth, **record},
            "batch": batch,
            "history": [
                {k: round(v, 5) if k == "loss" else v for k, v in h.items()} for h in trained.history
            ],
        },
    )
    state.unlink()


def phi4_coarse_to_fine() -> None:
    """φ⁴ at β = 0.68: autocorrelation of the whole field against its details, and fields of 64 × 64 made from coarse to fine."""
    torch.set_num_threads(1)  # its rounding is part of the result
    seed = 1
    jobs = [(_slow_mean, L, moves) for L, moves in ((4, 30_000), (8, 100_000), (16, 300_000))]
    jobs += [(_quick_details, L, 128 // L) for L in (8, 16, 32, 64)] + [(_coarse_to_fine, 64, 800)]

    def part(k: int, measure: Callable, L: int, n: int) -> dict:
        return measure(L, n, torch.Generator().manual_seed(seed + k))

    rows, seconds = in_parts("phi4_coarse_to_fine", jobs, part)
    write(
        "phi4_coarse_to_fine",
        "φ⁴ on tori (convention B, β = 0.68): τ_int in steps ε of MALA (time ε²/2) for the mean of the field and for details at fixed coarse fields; "
        "energies learnt scale by scale (coefficients and standard errors), and radial spectra, histograms of φ and Binder's "
        "cumulant of the fields made with them against those of hybrid Monte Carlo",
        seconds,
        seed,
        {"beta": 0.68, "whole": rows[:3], "details": rows[3:7], "generated": rows[7]},
    )


def _critical_fields(L: int, n: int, own: torch.Generator) -> torch.Tensor:
    options = {"chains": n, "records": 1, "warmup": 60, "clusters": max(4, L // 4), "generator": own}
    return phi4.sample(L, 0.68, **options).fields


def _slow_mean(L: int, moves: int, own: torch.Generator) -> dict:
    start, step, thin = _critical_fields(L, 64, own), 0.17, 20
    chain = multiscale.pixel_autocorrelation(
        L, 0.68, moves=moves, chains=64, step=step, thin=thin, start=start, generator=own
    )
    # The relative error of a sum over lags up to 10 τ of N values is √(40 τ/N).
    error = float(chain.tau) * math.sqrt(40 * float(chain.tau) / (64 * moves))
    tau = _six((chain.tau, error))
    return {"L": L, "moves": moves, "step": step, "tau": tau, "acceptance": round(chain.acceptance, 3)}


def _quick_details(L: int, n: int, own: torch.Generator) -> dict:
    x, moves = _critical_fields(L, n, own), 2000
    scale = multiscale.exact_scale(x, 0.68)
    step = 0.17 * (8 / L) ** (
        1 / 3
    )  # Metropolis' test of all sites at once asks for h ∼ N^{−1/3}, whatever the scale
    chain = multiscale.detail_autocorrelation(
        x, scale, moves=moves, step=step / float(scale.widths.mean()), generator=own
    )
    values = n * (L // 2) ** 2 * moves
    tau = [_six((t, float(t) * math.sqrt(40 * float(t) / values))) for t in chain.tau]
    return {"L": L, "moves": moves, "step": step, "tau": tau, "acceptance": round(chain.acceptance, 3)}


def _coarse_to_fine(L: int, n: int, own: torch.Generator) -> dict:
    train, test = _critical_fields(L, n, own), _critical_fields(L, n, own)
    levels = L.bit_length() - 3
    scales = multiscale.fit_scales(train, levels)
    coarse = train.double()
    for _ in range(levels):
        coarse = wavelets.dwt2(coarse, "haar", 1)[0]
    scales[-1] = multiscale.match_moments(scales[-1], coarse, generator=own)
    made = multiscale.sample(scales, n, generator=own)
    edges = torch.linspace(-2.4, 2.4, 65)
    row = {
        "L": L,
        "n": n,
        "acceptance": [round(a, 3) for a in made.acceptance],
        "scales": [
            {
                "size": s.size,
                "powers": list(s.powers),
                "theta": _rounded(torch.cat([s.law.bonds, s.law.potential])),
                "error": _rounded(s.law.error),
            }
            for s in scales
        ],
        "wavenumbers": _rounded(phi4.power_spectrum(test)[0]),
        "edges": _rounded(edges),
    }
    for name, x in (("made", made.fields[-1]), ("train", train), ("hmc", test)):
        powers = torch.stack([phi4.power_spectrum(y[None])[1] for y in x])
        shares = torch.stack([torch.histogram(y, edges).hist for y in x]).double() / L**2 * 64 / 4.8
        row[name] = {
            key: {"mean": _rounded(each.mean(0)), "error": _rounded(each.std(0) / math.sqrt(n))}
            for key, each in (("spectrum", powers), ("histogram", shares))
        }
        row[name]["binder"] = _six(renormalization.binder(x.double().mean((1, 2))[:, None]))
        squares = x.double().square().mean((1, 2))
        row[name]["square"] = _six((squares.mean(), squares.std() / math.sqrt(n)))
    return row


RUNS = {
    run.__name__: run
    for run in (
        hopfield_phase_diagram,
        unet_mnist,
        unet_fashion,
        gan_modes,
        exact_images,
        clones,
        copying,
        generalization,
        ising_flow,
        phi4_critical,
        denoiser_photographs,
        phi4_coarse_to_fine,
    )
}


def in_parts(name: str, jobs: list[tuple], run: Callable) -> tuple[list, float]:
    """The part run(k, *job) of each job k, and the seconds of all: each is kept when it is whole, and a run that was interrupted goes on there."""
    path = BUILD / "paper" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = json.loads(path.read_text()) if path.exists() else {"parts": [], "seconds": 0.0}
    done = len(state["parts"])
    if done:
        print(f"{name}: going on after {done} finished parts", flush=True)
    for k in tqdm(range(done, len(jobs)), name, len(jobs), initial=done):
        start = time.perf_counter()
        state["parts"].append(run(k, *jobs[k]))
        state["seconds"] += time.perf_counter() - start
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(state))
        scratch.replace(path)
    return state["parts"], state["seconds"]


def write(name: str, what: str, seconds: float, seed: int, values: dict) -> None:
    """book/data/NAME.json."""
    results.save(
        BOOK / "data" / f"{name}.json",
        what=what,
        command=f"make paper ONLY={name}",
        seconds=seconds,
        seed=seed,
        values=values,
    )


def main() -> None:
    names = sys.argv[1:] or list(RUNS)
    if unknown := set(names) - RUNS.keys():
        sys.exit(f"no run {', '.join(sorted(unknown))}; there are: {', '.join(RUNS)}")
    for name in names:
        RUNS[name]()
        (BUILD / "paper" / f"{name}.json").unlink(missing_ok=True)
        print(f"{name}: written to book/data/{name}.json", flush=True)


if __name__ == "__main__":
    main()
