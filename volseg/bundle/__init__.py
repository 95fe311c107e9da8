"""A bundle's folder, its recipe, and the members of an ensemble."""

from __future__ import annotations

from volseg import names_of_before
from volseg.bundle.config_text import is_path_setting, literal, literal_text, path_values
from volseg.bundle.directions import recipe_direction, resume_problem, tell_networks
from volseg.bundle.ensemble_file import ENSEMBLE, ENSEMBLE_SCHEMA, Ensemble, is_ensemble, named_ensemble, read_ensemble
from volseg.bundle.ensemble_members import Member, find_checkpoints, members_of
from volseg.bundle.folder import config, data_dir, find, find_all, root, stated_checkpoint
from volseg.bundle.network_settings import check_settings
from volseg.bundle.normalisation import asked_schemes, fit_normalisation
from volseg.bundle.overrides import children, lay_overrides, nearest_word
from volseg.bundle.recipe import Recipe, read_recipe
from volseg.bundle.training_words import check_training_words, check_writable

__all__ = [
    "ENSEMBLE",
    "ENSEMBLE_SCHEMA",
    "Ensemble",
    "Member",
    "Recipe",
    "asked_schemes",
    "check_settings",
    "check_training_words",
    "check_writable",
    "children",
    "config",
    "data_dir",
    "find",
    "find_all",
    "find_checkpoints",
    "fit_normalisation",
    "is_ensemble",
    "is_path_setting",
    "lay_overrides",
    "literal",
    "literal_text",
    "members_of",
    "named_ensemble",
    "nearest_word",
    "path_values",
    "read_ensemble",
    "read_recipe",
    "recipe_direction",
    "resume_problem",
    "root",
    "stated_checkpoint",
    "tell_networks",
]

__getattr__ = names_of_before(__name__)
