"""Every rule of thumb of the cubic engine, with its reason and the benchmark that chose it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Policy"]


@dataclass(frozen=True)
class Policy:
    """The rules of thumb of :class:`CuReNU` and :class:`StoCuReNU`.

    None of them is for a user to tune. In brackets stands the benchmark that chose a value or, where no others were
    compared, the one to run before changing it; ``benchmarks/RESULTS.md`` has what they printed, and the page on theory
    what was tried and lost. Whoever works on the engine replaces a rule by
    ``CuReNU(policy=dataclasses.replace(Policy(), max_rise=1.5))``.

    Attributes
    ----------
    few_rows : int
        StoCuReNU uses every retained row up to this many, or up to twice as many if training was not short; of more
        rows it draws this many. Only on all rows do steps in the whole network follow those in the output layer: on
        digits a random tenth is hardly undone without them, on a sample they cost as much again and gain little.
        (default, frontier)

    short_training_epochs : int
        Training was short if it took fewer epochs. A step in the whole network, with its products and trials, costs
        about as much as this many epochs would, so that training again would be as cheap. (default, one_row)

    short_training_steps : int
        Where training anew takes no more steps of the optimiser than these, and all rows are read, it is done in full:
        steps in the whole network take as long and know less. In the median of such nets they took 0.9 to 2.3 times as
        long. (small)

    fitted_share : float
        A net fits its rows if it leaves at most this share of the loss of a constant prediction. What is then left of
        the gradient fades with each row's loss, and the target of the deletion fades with it. In other nets what is
        left is training that was not finished, which a deletion must not undo. (default, sequence)

    unfitted_share : float
        Of a net that leaves more than this share of that loss, steps in the whole network end where one promises more
        than all before it: it goes on with training. In nets that fit their rows better, what they know of a class is
        flat at first, and steps that leave it promise more and more. (sequence, noisy rows; iris, a class)

    stationary_share : float
        Training ended at an optimum if it left at most this share of the gradient that the deletion brings. An optimum
        without the rows is then near and worth finding exactly; at a tenth steps drift away. What earlier requests have
        let fade counts as left. (frontier, full batch)

    first_damping : float
        Damping of the first step, as a share of the largest curvature: small enough to move, large enough that the step
        is taken at once. (engine, frontier)

    blind_damping : float
        The same for the only step that is taken where the retained rows are not kept and a step cannot be checked on
        them. With less damping the accuracy on retained rows is at risk. (default, with keep_training_set=False)

    shrink : float
        L is multiplied by this after a step whose actual decrease was at least 90 % of the predicted one. (default)

    overshoot : float
        L is multiplied by this after a first step that left too large a gradient and was taken back: the model was
        trusted too far. (default)

    max_rise : float
        A step, or all steps in the output layer together, may leave a gradient this many times as large as the smallest
        so far. Beyond that they follow curvature away from the fitted point and undo nothing. At 1 for the output layer
        good steps of half-trained nets are lost; without a bound random rows ended up to ten times farther from
        retraining than by doing nothing (small). At 1 a class stays half erased; at 4 a random tenth ends farther away.
        (default)

    noise_factor : float
        The steps end when the squared norm of a sampled gradient is at most this many times its sampling variance: half
        of what is seen is then noise. (frontier)

    narrow_products : int
        Dimension of the Krylov space. Ten products give the step of the dense Hessian to within 5 %, thirty give
        nine digits, which the next step does not need. (engine)

    narrow_bytes : int
        Most memory for that space, where it then has fewer dimensions, down to `fewest_products`. Of a large net it
        would be most of what a request holds. On digits five and three products led as near to retraining as ten, in
        two thirds of the time. A setting as `wide_bytes` is.

    fewest_products : int
        What is left of the space at least.

    rough_products : int
        The same where the curvature comes from a sample of rows and is not known any better. (frontier)

    wide_products : int
        Most dimensions of the Krylov space where training ended at an optimum. (frontier, full batch)

    wide_bytes : int
        Most memory for that space. A setting, not a measurement of what is free: results must not depend on the
        machine's other work.

    wide_damping, wide_shrink : float
        First damping and shrink factor where training ended at an optimum: the model holds and large steps pay.
        (frontier, full batch)

    wide_inexact : float
        There a step is solved until the residual of the model is this share of the gradient. (frontier, full batch)

    wide_check_every : int
        How often that residual is looked at, in products: each look solves a small eigenproblem.

    descent_weight : float
        The first L of the gradient-descent solver, which sees no curvature to choose it by.

    rounding : float
        A predicted decrease of less than this many units in the last place of the objective cannot be measured. Such a
        step is taken unmeasured: where the decrease is that small, the model is right.

    first_rows : int
        Rows that the output layer's steps read first, or half as many as are erased where that is more. (frontier: half
        a class within a twentieth of retraining's time)

    rows_per_erased : float
        That half.

    max_rows : int
        The sample stops growing here: features of a row cost a forward pass. Twice as many came no closer. (frontier)

    kept_rows : int
        Of so many of the rows read the features are kept for the next request. (one_row)

    closing_rows, closing_rows_per_erased : int
        Over how many rows the change of the gradient is estimated when all is done: at least, and for each erased row.
        The change that few rows bring is small, and so is what an estimate of it may miss. (one_row)

    fewest_judges : float
        A step is checked on rows it was not computed from. If these would be fewer than this share of the rows it was
        computed from, they are read together with the ones before: a handful judges badly. (frontier)

    curvature_rows : int
        Curvature in the output layer is taken from the first of the rows read, about this many. More rows make a step
        dearer and not better. (frontier)

    agreeing_share : float
        The sample stops growing when the gradient over fresh rows is this share of the first gradient or less: more
        rows would tell nothing more. (frontier)

    watched_rows : int
        Erased rows whose predictions are watched, to see when the layer comes to rest: enough for a mean. (frontier)

    settled_share : float
        The layer is at rest when a step changed these predictions by at most this share of all the change so far.
        Waiting for 0.03 cost more and came no closer. (frontier)

    invisible_change : float
        Or, for probabilities, when it changed them by at most this much: retraining with another seed changes them by
        more. (frontier, one row)

    ceiling : float
        Steps in the output layer end where the erased rows cost this many times what retained rows would if they were
        taken for one of the other classes. Models retrained without a class: 0.7 to 1.4 times on Fashion-MNIST. Without
        a ceiling a loss of 798 was seen where retraining gives 14. (ceiling)

    small_request : float
        A request is too small to train anew for if the residual of training is this many times the gradient that it
        brings, together with those before it that were too small: what training left to chance is then the larger part
        of whatever comes of it. (stages)

    one_of_many : float
        And so is one row, however much it brings, unless all of them together bring this many times as much: one row
        takes milliseconds, and only what many of them leave is worth a training. (one_row)

    since_set_aside : float
        Where a net that was trained anew was set aside, another is only trained when this many times as much is to be
        undone: what speaks against one speaks against the next.

    output_share, output_share_of_all : float
        Nor is it done where the output layer has this share of the tangent kernel of the erased rows' outputs: steps in
        it then reach much of what the net knows of them. Where steps in the whole network read all rows and follow, the
        second, smaller share is enough. (stages, every_layer: doors)

    released_share : float
        Nor where the weights that went back had this share of it: what the net knew of a user is then gone. (stages:
        ratings; every_layer: recommender)

    fewest_steps : int
        Nor is it done in fewer steps than these, which do not train any network. (stages: five epochs of a CNN)

    apart : float
        A net that was trained anew is set aside if predictions for the erased rows changed less than this many times as
        much as those for retained rows: what it changed is then mostly that it was trained otherwise. (stages)

    loss_rise : float
        It is set aside, too, if the loss of retained rows is more than this many times what it was: so few steps did
        not learn them. (stages)

    loss_left : float
        But not if that is at most this share of what one output for all rows costs: nets that fit their rows all but
        perfectly differ in what is left many times over, and mean nothing by it. (stages: spam)

    apart_of_all, loss_rise_of_all : float
        The same two bounds where steps in the whole network read all rows and are what it is set aside for; there the
        second one holds unless the rows are fitted (`fitted_share`). Steps know nothing of the chance of another
        training, which on noisy rows is most of what training anew changes. (sequence, noisy rows)

    compared_rows : int
        Rows of each kind over which these two are measured: enough for a mean.

    outweighing : float
        The targets of training anew are the labels where the residual is at most this share of what the deletion
        brings, as for a class or a group that goes entirely: a teacher would still be wrong about it. Else they are
        what the fitted net predicts after the steps in the output layer, which costs retained rows less. (stages)

    budget_for_steps : float
        Which part of the budget goes to the steps of training anew; the rest is for what comes before and after.

    kernel_rows : int
        Most erased rows over which the tangent kernel is looked at.

    layer_max_steps, layer_products : int
        Most steps in the output layer, and products for each. More products came no closer. (frontier)

    layer_shrink : float
        As `shrink`, in the output layer. Its problem is convex for the usual losses, so boldness pays. (frontier)

    layer_inexact : float
        A step in the layer is solved until the residual of the model is this share of the gradient: the next step
        starts from a new model anyway. (frontier)

    layer_check_every : int
        How often that residual is looked at, in products.

    fresh_tries : int
        Values of L that are tried while rows are left to be read. Where fresh rows disagree with a step, learning from
        them is better than the short step on which they would agree. (frontier)

    max_cost : float
        The output layer's steps together may raise the risk over retained rows by this share. What training had left
        undone tilts the objective, and along directions that the data hardly bend it falls while the model gets worse.
        (default: an erased class of digits; frontier: Adult)
    """

    few_rows: int = 1024
    short_training_epochs: int = 20
    short_training_steps: int = 100
    fitted_share: float = 0.02
    unfitted_share: float = 0.1
    stationary_share: float = 3e-2
    first_damping: float = 1e-2
    blind_damping: float = 3e-2
    shrink: float = 1 / 3
    overshoot: float = 10.0
    max_rise: float = 2.0
    noise_factor: float = 2.0
    narrow_products: int = 10
    narrow_bytes: int = 2**27
    fewest_products: int = 3
    rough_products: int = 5
    wide_products: int = 200
    wide_bytes: int = 2**30
    wide_damping: float = 1e-4
    wide_shrink: float = 0.1
    wide_inexact: float = 0.1
    wide_check_every: int = 5
    descent_weight: float = 1.0
    rounding: float = 4.0
    first_rows: int = 1024
    rows_per_erased: float = 0.5
    max_rows: int = 8192
    kept_rows: int = 2048
    closing_rows: int = 64
    closing_rows_per_erased: int = 16
    fewest_judges: float = 0.5
    curvature_rows: int = 4096
    agreeing_share: float = 0.1
    watched_rows: int = 1024
    settled_share: float = 0.1
    invisible_change: float = 1e-2
    ceiling: float = 1.4
    small_request: float = 40.0
    one_of_many: float = 5.0
    since_set_aside: float = 2.0
    output_share: float = 0.5
    output_share_of_all: float = 0.2
    released_share: float = 0.3
    fewest_steps: int = 100
    apart: float = 1.5
    loss_rise: float = 2.0
    loss_left: float = 0.2
    apart_of_all: float = 6.0
    loss_rise_of_all: float = 1.1
    compared_rows: int = 2048
    outweighing: float = 0.2
    budget_for_steps: float = 0.8
    kernel_rows: int = 64
    layer_max_steps: int = 12
    layer_products: int = 12
    layer_shrink: float = 0.1
    layer_inexact: float = 0.1
    layer_check_every: int = 4
    fresh_tries: int = 2
    max_cost: float = 0.02
