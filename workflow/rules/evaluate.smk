# Short evaluations of one table share a process where the scale says so (`evaluations_per_job`): that job
# makes their metrics, and the rule of each finds them made. What it could not make, that rule makes itself.
TOGETHER = {} if SETTINGS.anew else {group.key: group for group in evaluations_together(PLAN)}
INDEX_OF = {cell.path: group.path for group in TOGETHER.values() for cell in group.cells}
PLACE = "{dataset}/{method}/{arch}/ipc{ipc}/seed{seed}-{key}/{eval_arch}-{protocol}-{ekey}"
LOG = PLACE.replace("/", "-")


def evaluated(w):
    return cell_of(LATER, (w.task, w.ekey))


def trained_and_tested_on(w):
    return inputs_of(evaluated(w))


def inputs_of(cell):
    sets = [one.path for one in cell.all_sets] if cell.synthetic.recipe.makes_set else []
    made = [parent.path for parent in cell.parents.values()]
    return [*sets, *made, cell.synthetic.data.train, cell.synthetic.data.test]


def evaluate_options(w):
    return options(*words_of(evaluated(w)))


def words_of(cell):
    """Of `condense evaluate` for the networks of a cell: on its set, or its snapshots, with the further sets
    of its task, or on all training images; or of its recipe."""
    synthetic = cell.synthetic
    words = ["--synthetic", cell.judged] if synthetic.recipe.makes_set else []
    if cell.reads_recipe:
        words = ["--recipe", synthetic.settings, "--ipc", synthetic.ipc]
    words += [word for name, other in cell.given.items() for word in ("--with", f"{name}={other.path}")]
    words += ["--task", cell.task_settings]
    words += ["--data", synthetic.data.folder, "--method", synthetic.recipe.name]
    words += ["--arch", cell.eval_arch, "--options", cell.options, "--protocol", cell.settings]
    words += ["--strategy", synthetic.data.spec.strategy, "--networks", cell.n_networks]
    return [*words, "--seed", synthetic.seed, "--key", cell.key]


def evaluate_inputs(w):
    """What the networks are trained and tested on; where the cell shares a process, that its job has ended."""
    index = INDEX_OF.get(evaluated(w).path)
    return {"images": trained_and_tested_on(w)} | ({"together": index} if index else {})


def unless_made(w, input, output):
    """What asks, without starting Python, whether the job that the cell shares has just made its metrics."""
    if "together" not in input.keys():
        return ""
    made, listed, index = map(shlex.quote, (output[0], json.dumps(output[0]), input.together))
    return f"test -s {made} && grep -qF {listed} {index} ||"


def together_of(w):
    """The evaluations that share a process, without those of which there is a kept copy to be taken."""
    return [cell for cell in cell_of(TOGETHER, w.key).cells if not offered(cell.path)]


def together_inputs(w):
    return sorted({path for cell in together_of(w) for path in inputs_of(cell)})


def together_options(w, threads):
    """Of `condense together`: for each evaluation, as one word, its own command."""
    words = []
    for cell in together_of(w):
        device = SETTINGS.device_of(ASKED.evaluate(cell).gpu)
        more = ["--device", device, "--threads", threads, "--out", cell.path, "--keep"]
        words.append(options("evaluate", *words_of(cell), *more))
    return options(*words)


def together_needs(w, attempt):
    return ASKED.evaluate_together(together_of(w), attempt)


def evaluate_needs(w, attempt):
    return ASKED.evaluate(evaluated(w), None, attempt)


def part_needs(w, attempt):
    return ASKED.evaluate(evaluated(w), number_in(w.part), attempt)


def join_needs(w, attempt):
    return ASKED.join(evaluated(w), attempt)


rule evaluate_together:
    """Several short evaluations in one process, whose start takes longer than each of them."""
    input:
        together_inputs,
    output:
        temp("results/together/{key}.json"),
    params:
        options=together_options,
    log: "results/logs/evaluate_together/{key}.log",
    benchmark: "results/benchmarks/evaluate_together/{key}.tsv"
    threads: threads_of("evaluate")
    resources:
        **asks(together_needs),
    shell:
        "condense --log {log:q} together --index {output:q} {params.options}"


rule evaluate:
    """Networks of one architecture trained on one set and tested: every accuracy is kept."""
    input:
        unpack(evaluate_inputs),
    output:
        update(f"results/metrics/{{task}}/{PLACE}.json"),
    params:
        keep=KEEP,
        options=evaluate_options,
        device=device_of(evaluate_needs),
        unless_made=unless_made,
    log: f"results/logs/evaluate/{{task}}/{LOG}.log",
    benchmark: f"results/benchmarks/evaluate/{{task}}/{LOG}.tsv"
    threads: threads_of("evaluate")
    resources:
        **asks(evaluate_needs),
    shell:
        "{params.unless_made} condense --log {log:q} evaluate {params.options} --device {params.device:q}"
        " --threads {threads} --out {output:q} {params.keep}"


rule evaluate_part:
    """Some networks of a cell whose networks the scale splits into several jobs."""
    input:
        trained_and_tested_on,
    output:
        temp(f"results/parts/{{task}}/{PLACE}/networks{{part}}.json"),
    params:
        keep=KEEP,
        options=evaluate_options,
        device=device_of(part_needs),
        whole=lambda w: evaluated(w).path,
    log: f"results/logs/evaluate_part/{{task}}/{LOG}-{{part}}.log",
    benchmark: f"results/benchmarks/evaluate_part/{{task}}/{LOG}-{{part}}.tsv"
    threads: threads_of("evaluate")
    resources:
        **asks(part_needs),
    shell:
        "condense --log {log:q} evaluate {params.options} --device {params.device:q} --threads {threads}"
        " --part {wildcards.part} --whole {params.whole:q} --out {output:q} {params.keep}"


rule join:
    """The metrics of a cell from its parts."""
    wildcard_constraints:
        ekey="|".join(sorted({cell.key for cell in METRICS.values() if len(PLAN.parts(cell)) > 1})) or "none",
    input:
        lambda w: [evaluated(w).part_path(part) for part in PLAN.parts(evaluated(w))],
    output:
        update(f"results/metrics/{{task}}/{PLACE}.json"),
    params:
        keep=KEEP,
    log: f"results/logs/join/{{task}}/{LOG}.log",
    benchmark: f"results/benchmarks/join/{{task}}/{LOG}.tsv"
    threads: 1
    resources:
        **asks(join_needs),
    shell:
        "condense --log {log:q} join --parts {input:q} --key {wildcards.ekey} --out {output:q} {params.keep}"


rule take_metrics:
    """Metrics that were kept earlier, taken over after their check."""
    wildcard_constraints:
        ekey=keys_kept(METRICS.values()),
    input:
        lambda w: kept_path(evaluated(w).path),
    output:
        update(f"results/metrics/{{task}}/{PLACE}.json"),
    log: f"results/logs/take/{{task}}/{LOG}.log",
    threads: 1
    resources:
        **asks(copy_needs),
    shell:
        "condense --log {log:q} take {output:q}"


ruleorder: take_metrics > join > evaluate
