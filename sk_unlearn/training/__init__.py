"""How nets are trained here: which rows entered a gradient, who watched, and many nets at once."""
