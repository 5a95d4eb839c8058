"""How each kind of rule is evaluated: one class for each, fed with windows in the order of the journal."""
