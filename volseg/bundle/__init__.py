"""A bundle's folder, its recipe, and the members of an ensemble."""

from __future__ import annotations

from volseg import names_of_before
from volseg.bundle.config_text import is_path_setting, literal, literal_text, path_values
from volseg.bundle.damage import checkpoint_damage
from volseg.bundle.directions import recipe_direction, resume_problem, tell_networks
from volseg.bundle.ensemble_file import ENSEMBLE, ENSEMBLE_SCHEMA, Ensemble, is_ensemble, named_ensemble, read_ensemble
from volseg.bundle.ensemble_members import Member, find_checkpoints, members_of
from volseg.bundle.folder import (
    about,
    config,
    copy,
    data_dir,
    find,
    find_all,
    installed,
    is_bundle,
    is_trained,
    models_dir,
    newer_version,
    read_config,
    root,
    stated_checkpoint,
)
from volseg.bundle.network_settings import check_settings
from volseg.bundle.normalisation import asked_schemes, fit_normalisation
from volseg.bundle.overrides import children, lay_overrides, nearest_word
from volseg.bundle.public_facts import without_folders
from volseg.bundle.recipe import (
    LONGEST_IMAGE,
    SAFETENSORS,
    WITHOUT_PRIOR,
    Recipe,
    packed_recipe,
    read_checkpoint,
    read_recipe,
    weights_digest,
    write_safetensors,
)
from volseg.bundle.setting_rows import Setting, settings_table
from volseg.bundle.settings_of_run import PLANNED, run_settings
from volseg.bundle.trained_file import weights_file
from volseg.bundle.training_words import check_training_words, check_writable

__all__ = [
    "ENSEMBLE",
    "ENSEMBLE_SCHEMA",
    "LONGEST_IMAGE",
    "PLANNED",
    "SAFETENSORS",
    "WITHOUT_PRIOR",
    "Ensemble",
    "Member",
    "Recipe",
    "Setting",
    "about",
    "asked_schemes",
    "check_settings",
    "check_training_words",
    "check_writable",
    "checkpoint_damage",
    "children",
    "config",
    "copy",
    "data_dir",
    "find",
    "find_all",
    "find_checkpoints",
    "fit_normalisation",
    "installed",
    "is_bundle",
    "is_ensemble",
    "is_path_setting",
    "is_trained",
    "lay_overrides",
    "literal",
    "literal_text",
    "members_of",
    "models_dir",
    "named_ensemble",
    "nearest_word",
    "newer_version",
    "packed_recipe",
    "path_values",
    "read_checkpoint",
    "read_config",
    "read_ensemble",
    "read_recipe",
    "recipe_direction",
    "resume_problem",
    "root",
    "run_settings",
    "settings_table",
    "stated_checkpoint",
    "tell_networks",
    "weights_digest",
    "weights_file",
    "without_folders",
    "write_safetensors",
]

__getattr__ = names_of_before(__name__)
