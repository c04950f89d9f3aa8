GROUPS = groups(PLAN)


def keys_alone():
    """A pattern of the keys of sets of which some shard has a job of its own. Snakemake then weighs `synthesize` for these alone."""
    grouped = {(cell.key, group.shard) for group in GROUPS if len(group.cells) > 1 for cell in group.cells}
    alone = {cell.key for cell in SETS.values() if any((cell.key, shard) not in grouped for shard in PLAN.shards(cell))}
    return "|".join(sorted(alone)) or "none"


def shard_inputs(w):
    cell = cell_of(SETS, w.key)
    return unless_made(cell.shard_path(w.shard), [cell.data.train, *trained_before(cell)])


def trained_before(cell):
    """The teacher and the bank of networks of a set or group, where it has them."""
    return [one.path for one in (cell.teacher, cell.bank) if one]


def synthesize_command(group):
    """`condense synthesize` for the sets of a group, or for one."""
    first, cells = group.cells[0], group.cells
    recipes = [cell.settings for cell in cells]
    words = ["condense", "synthesize", "--data", first.data.train, "--arch", first.arch, "--options", first.options, "--seed", first.seed]
    words += ["--classes", group.shard, "--recipe", *recipes, "--ipc", *(cell.ipc for cell in cells)]
    words += ["--key", *(cell.key for cell in cells)]
    words += [word for name in ("teacher", "bank") if (one := getattr(group, name)) for word in (f"--{name}", one.path)]
    return shlex.join(map(str, [*words, "--out", *group.outputs, "--device", "auto"]))


def command_of(group):
    """A function, since Snakemake would take the braces of a recipe for wildcards."""
    return lambda w: synthesize_command(group)


rule synthesize:
    """One shard of classes of one synthetic set."""
    wildcard_constraints:
        key=keys_alone(),
    input:
        shard_inputs,
    output:
        shard=temp("results/shards/{dataset}/{method}/{arch}/ipc{ipc}/seed{seed}-{key}/classes{shard}.safetensors"),
        facts=temp("results/shards/{dataset}/{method}/{arch}/ipc{ipc}/seed{seed}-{key}/classes{shard}.run.json"),
    params:
        # What this cell depends on and nothing else: its hash is in the {key} of the path.
        command=lambda w: synthesize_command(Group("synthesize", w.shard, (cell_of(SETS, w.key),))),
    log: "results/logs/synthesize/{dataset}-{method}-{arch}-ipc{ipc}-seed{seed}-{key}-{shard}.log",
    benchmark: "results/benchmarks/synthesize/{dataset}-{method}-{arch}-ipc{ipc}-seed{seed}-{key}-{shard}.tsv"
    threads: need("synthesize", "threads")
    resources:
        gpu=need("synthesize", "gpu"),
        mem_mb=need("synthesize", "mem_mb"),
        runtime=need("synthesize", "runtime"),
    shell:
        "{params.command} --threads {threads} > {log:q} 2>&1"


def set_as_synthesize(name):
    """Lets what `set-resources` and `set-threads` say of `synthesize` hold for another job of that kind."""
    resources, settings = workflow.get_rule(name).resources, workflow.resource_settings
    resources.update(settings._parsed_overwrite_resources.get("synthesize", {}))
    if "synthesize" in settings._parsed_overwrite_threads:
        resources["_cores"] = settings._parsed_overwrite_threads["synthesize"]


def group_inputs(group):
    """Of a job of several sets, unless all of its shards are there."""
    parents = [group.cells[0].data.train, *trained_before(group)]
    return lambda w: [] if all(Path(shard).exists() for shard in group.outputs) else parents


for group in [group.left() for group in GROUPS if len(group.cells) > 1]:
    if group is None:
        continue

    # Sets that share the real side (`sets_per_job`). Snakemake prefers a rule without wildcards, so none of these is made alone.
    rule:
        name:
            group.name
        input:
            group_inputs(group),
        output:
            # Not temporary: shards of sets that nobody has asked for yet stay, and the others go when the head ends (prune.sweep).
            group.outputs,
            [str(Path(shard).with_suffix(".run.json")) for shard in group.outputs],
        params:
            command=command_of(group),
        log: f"results/logs/synthesize/{group.name}.log",
        benchmark: f"results/benchmarks/synthesize/{group.name}.tsv"
        threads: need("synthesize", "threads")
        resources:
            gpu=need("synthesize", "gpu"),
            mem_mb=need("synthesize", "mem_mb"),
            runtime=need("synthesize", "runtime"),
        shell:
            "{params.command} --threads {threads} > {log:q} 2>&1"

    set_as_synthesize(group.name)


# Snakemake leaves a name for every rule among the globals, and copies all of these for every text that it formats: with thousands of
# rules that is a third of the time it takes to plan. Nothing uses these names.
for name in [name for name in globals() if name.startswith("__synthesize_")]:
    del globals()[name]


def gather_inputs(w):
    """The shards with what they cost."""
    cell = cell_of(SETS, w.key)
    shards = [cell.shard_path(shard) for shard in PLAN.shards(cell)]
    facts = [str(Path(shard).with_suffix(".run.json")) for shard in shards]
    return unless_made(cell.path, [*shards, *facts, cell.data.train])


rule gather:
    """One synthetic set from its shards, with its grid, history and cost."""
    input:
        gather_inputs,
    output:
        "results/synthetic/{dataset}/{method}/{arch}/ipc{ipc}/seed{seed}-{key}/synthetic.safetensors",
    params:
        shards=lambda w: [cell_of(SETS, w.key).shard_path(shard) for shard in PLAN.shards(cell_of(SETS, w.key))],
        data=lambda w: cell_of(SETS, w.key).data.train,
    log: "results/logs/gather/{dataset}-{method}-{arch}-ipc{ipc}-seed{seed}-{key}.log",
    benchmark: "results/benchmarks/gather/{dataset}-{method}-{arch}-ipc{ipc}-seed{seed}-{key}.tsv"
    threads: 1
    resources:
        mem_mb=need("report", "mem_mb"),
        runtime=need("report", "runtime"),
    shell:
        "condense gather --shards {params.shards:q} --data {params.data:q} --out {output:q} > {log:q} 2>&1"


rule take_set:
    """One synthetic set that was kept earlier, taken over after its check instead of being condensed again."""
    wildcard_constraints:
        key=keys_kept(SETS.values()),
    input:
        lambda w: kept(cell_of(SETS, w.key).path),
    output:
        "results/synthetic/{dataset}/{method}/{arch}/ipc{ipc}/seed{seed}-{key}/synthetic.safetensors",
    log: "results/logs/take/{dataset}-{method}-{arch}-ipc{ipc}-seed{seed}-{key}.log",
    threads: 1
    shell:
        "condense take {output:q} > {log:q} 2>&1"


ruleorder: take_set > gather
