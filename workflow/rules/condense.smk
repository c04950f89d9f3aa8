# Sets that see the same networks and real batches are condensed in one job (`sets_per_job` of the scale): a
# group. Its key is that of all its sets, made or not, and its only output is an index of the shards, which
# lie under the keys of the sets.
GROUPS = {(group.key, str(group.shard)): group for group in groups(PLAN)}
GROUPS_OF = {}
for group in GROUPS.values():
    for cell in group.cells:
        GROUPS_OF.setdefault(cell.key, []).append(group)


def group_of(w):
    share = f"{w.of}{w.shard}"
    if (w.key, share) not in GROUPS:
        raise WorkflowError(
            f"no group of scale '{SCALE}' has the key {w.key} and the share {share}; ask for the set itself"
        )
    return GROUPS[w.key, share]


def group_inputs(w):
    """The images, and what is made before the sets, such as a teacher or a bank of networks."""
    group = group_of(w)
    return [group.cells[0].data.train, *(parent.path for parent in group.parents.values())]


def group_options(w):
    group = group_of(w)
    first, cells = group.cells[0], group.cells
    words = ["--data", first.data.train, "--arch", first.arch]
    words += ["--options", first.options, "--seed", first.seed]
    words += [f"--{group.shard.of}", group.shard.range]
    words += ["--recipe", *(cell.settings for cell in cells)]
    words += ["--ipc", *(cell.ipc for cell in cells), "--key", *(cell.key for cell in cells)]
    words += [word for name, parent in group.parents.items() for word in ("--with", f"{name}={parent.path}")]
    return options(*words, "--out", *group.outputs, "--whole", *(cell.path for cell in cells))


def group_needs(w, attempt):
    group = group_of(w)
    return ASKED.synthesize(group.cells, group.shard, attempt)


rule synthesize:
    """The shards of one share of a group of sets; those of sets that are whole are left out."""
    input:
        group_inputs,
    output:
        # Not temporary: shards of sets that nobody has asked for yet stay, and the others go when the head
        # ends (prune.sweep).
        "results/groups/{dataset}/{arch}/{key}/{of}{shard}.json",
    params:
        keep=KEEP,
        options=group_options,
        device=device_of(group_needs),
    log: "results/logs/synthesize/{dataset}-{arch}-{key}-{of}-{shard}.log",
    benchmark: "results/benchmarks/synthesize/{dataset}-{arch}-{key}-{of}-{shard}.tsv"
    threads: threads_of("synthesize")
    resources:
        **asks(group_needs),
    shell:
        "condense --log {log:q} synthesize {params.options} --device {params.device:q} --threads {threads}"
        " --index {output:q} {params.keep}"


def gather_inputs(w):
    """The indexes of the groups that hold the shards of the set, and the images, which its grid shows."""
    cell = cell_of(SETS, w.key)
    return {"index": [group.path for group in GROUPS_OF[w.key]], "data": cell.data.train}


def gather_needs(w, attempt):
    return ASKED.gather(cell_of(SETS, w.key), attempt)


# Sets that are put together of others, of some classes each, in place of shards
JOINED = {cell.key: cell for cell in SETS.values() if cell.joins}


rule gather:
    """One synthetic set from its shards, with its grid, history and cost."""
    wildcard_constraints:
        key=f"(?!{'|'.join(JOINED)})[0-9a-f]{{12}}" if JOINED else "[0-9a-f]{12}",
    input:
        unpack(gather_inputs),
    output:
        update("results/synthetic/{dataset}/{method}/{arch}/ipc{ipc}/seed{seed}-{key}/synthetic.safetensors"),
    params:
        keep=KEEP,
        stored=lambda w: cell_of(SETS, w.key).stored,
        shards=lambda w: [cell_of(SETS, w.key).shard_path(group.shard) for group in GROUPS_OF[w.key]],
    log: "results/logs/gather/{dataset}-{method}-{arch}-ipc{ipc}-seed{seed}-{key}.log",
    benchmark: "results/benchmarks/gather/{dataset}-{method}-{arch}-ipc{ipc}-seed{seed}-{key}.tsv"
    threads: 1
    resources:
        **asks(gather_needs),
    shell:
        "condense --log {log:q} gather --index {input.index:q} --shards {params.shards:q}"
        " --data {input.data:q}"
        " --key {wildcards.key} --stored {params.stored:q} --out {output:q} {params.keep}"


def joined(w):
    return cell_of(JOINED, w.key)


def assemble_inputs(w):
    """The sets that come one after the other, the classes that each is of, and the images of all; only
    these, where one job makes the others too."""
    cell = joined(w)
    if PLAN.scale.steps_in_one_job:
        return [cell.data.train, cell.data.test]
    return [path for part in cell.joins for path in (part.path, part.data.train)] + [cell.data.train]


def assemble_words(cell):
    parts = ("--sets", *(part.path for part in cell.joins), "--of", *(part.data.folder for part in cell.joins))
    return ["assemble", *parts, "--data", cell.data.train, "--key", cell.key, "--out", cell.path]


def part_words(part, machine):
    """The commands that make a set of some classes: these classes, what the set is made from, and the set."""
    words = [["classes", *classes_words(part.data)]]
    for parent in with_their_own(part.parents.values()):
        words.append(["parent", *teach_words(parent), "--out", parent.path, *machine])
    (shard,) = part.shards(None)
    given = [word for name, parent in part.parents.items() for word in ("--with", f"{name}={parent.path}")]
    words.append(
        ["synthesize", "--data", part.data.train, "--arch", part.arch, "--options", part.options]
        + ["--seed", part.seed, "--recipe", part.settings, "--ipc", part.ipc, "--key", part.key, *given]
        + ["--out", part.shard_path(shard), *machine]
    )
    gathered = ["gather", "--shards", part.shard_path(shard), "--data", part.data.train, "--key", part.key]
    return [*words, [*gathered, "--stored", part.stored, "--out", part.path]]


def assemble_options(w, threads):
    """Of `condense chain`: that of the set and, where one job makes all, those of what comes before it, each
    as one word."""
    cell, commands = joined(w), []
    if PLAN.scale.steps_in_one_job:
        machine = ["--device", SETTINGS.device_of(assemble_needs(w, 1).gpu), "--threads", threads]
        commands = [words for part in cell.joins for words in part_words(part, machine)]
    keep = [KEEP] if KEEP else []
    return options(*(options(*words, *keep) for words in [*commands, assemble_words(cell)]))


def assemble_needs(w, attempt):
    reckon = ASKED.steps if PLAN.scale.steps_in_one_job else ASKED.gather
    return reckon(joined(w), attempt)


rule assemble:
    """One synthetic set from sets of some classes each, none of which has seen the classes of the others."""
    wildcard_constraints:
        key="|".join(JOINED) or "none",
    input:
        assemble_inputs,
    output:
        update("results/synthetic/{dataset}/{method}/{arch}/ipc{ipc}/seed{seed}-{key}/synthetic.safetensors"),
    params:
        options=assemble_options,
    log: "results/logs/assemble/{dataset}-{method}-{arch}-ipc{ipc}-seed{seed}-{key}.log",
    benchmark: "results/benchmarks/assemble/{dataset}-{method}-{arch}-ipc{ipc}-seed{seed}-{key}.tsv"
    threads: threads_of("synthesize") if PLAN.scale.steps_in_one_job else 1
    resources:
        **asks(assemble_needs),
    shell:
        "condense --log {log:q} chain {params.options}"


rule take_set:
    """One synthetic set that was kept earlier, taken over after its check instead of being condensed
    again."""
    wildcard_constraints:
        key=keys_kept(SETS.values()),
    input:
        lambda w: kept_path(cell_of(SETS, w.key).path),
    output:
        update("results/synthetic/{dataset}/{method}/{arch}/ipc{ipc}/seed{seed}-{key}/synthetic.safetensors"),
    log: "results/logs/take/{dataset}-{method}-{arch}-ipc{ipc}-seed{seed}-{key}.log",
    threads: 1
    resources:
        **asks(copy_needs),
    shell:
        "condense --log {log:q} take {output:q}"


ruleorder: take_set > assemble > gather
