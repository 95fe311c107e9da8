"""Kinds of inputs that were once read silently wrong, each with the test of its first case and the tests of others.

The kinds are those of docs/reference/formats.md: 0 directions that no file states, A geometry, B masks and images,
C cohorts of others, D names and order, E trainings that cannot succeed, F the 2D family and other programs. A fault of
such a kind is mended with its kind: its first case and at least two siblings are tests. Here stands which they are.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Fault: tests; the first one holds the case that was found, the others hold siblings.
KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "0": {
        "slices from head to feet": (
            "test_slices_are_numbered_from_the_head",
            "test_an_earlier_phantom_keeps_its_direction_and_is_named",
            "test_predict_names_an_earlier_checkpoint_and_an_earlier_cohort",
            "test_a_training_is_not_resumed_the_other_way_round",
            "test_the_same_slices_are_written_from_both_cohorts",
        ),
    },
    "A": {
        "headers that contradict themselves": (
            "test_itk_and_nibabel_see_image_and_prediction_at_one_place",
            "test_each_fault_of_a_header_is_decided_and_told",
            "test_any_header_is_read_by_the_rule_and_goes_into_the_prediction",
            "test_a_mask_drawn_in_either_kind_of_program_is_taken_with_a_word",
        ),
        "voxel sizes of ACDC": (
            "test_acdc_is_converted_at_its_true_voxel_size_for_every_reader",
            "test_a_shear_is_no_contradiction_if_pixdim_is_the_length_or_the_distance_of_planes",
            "test_distances_are_those_of_the_image",
        ),
        "units, stated and not": (
            "test_each_fault_of_a_header_is_decided_and_told",
            "test_sizes_that_no_patient_has_are_told",
            "test_an_image_far_from_the_network_s_grid_is_told_before_the_work_and_beside_the_result",
            "test_each_command_tells_sizes_that_make_no_sense",
        ),
        "tolerance of grids": (
            "test_one_tolerance_for_every_size_of_voxel",
            "test_small_tilts_are_read_as_itk_reads_them_and_masks_of_both_kinds_are_taken",
            "test_channels_of_nearly_one_grid_are_one_image_and_that_is_said",
            "test_turned_and_rounded_predictions_are_told_once",
        ),
        "numbers a little off": (
            "test_a_quaternion_a_little_too_long_is_half_a_turn",
            "test_64_bits_become_the_smallest_type_that_holds_them",
            "test_only_a_file_that_is_cut_short_is_called_so",
            "test_bytes_behind_gzip_data_are_left_out",
        ),
        "the slice axis": (
            "test_all_that_is_counted_in_slices_is_the_same_however_the_file_stores_it",
            "test_which_axis_counts_the_slices",
            "test_the_picture_of_a_case_shows_its_slices",
            "test_slices_may_run_along_any_axis",
        ),
        "a distance of the tolerance": (
            "test_a_distance_of_the_tolerance_is_within_it",
            "test_so_it_is_in_the_effort",
            "test_an_overlap_of_the_threshold_is_no_match_whatever_the_threshold",
            "test_a_part_of_the_smallest_size_stays",
        ),
        "halves between two voxels": (
            "test_slices_made_finer_are_equally_thick",
            "test_an_oblique_scan_is_made_finer_along_its_own_axes",
            "test_a_coarser_prediction_on_the_grid_of_its_slices",
            "test_a_prediction_that_lacks_a_slice_a_row_or_a_column_is_refused",
        ),
    },
    "B": {
        "white is zero": (
            "test_masks_that_store_white_as_zero_are_read_by_their_numbers",
            "test_numbers_are_those_of_tifffile_and_brightness_that_of_the_standard",
            "test_objects_and_classes_by_number_where_white_is_zero",
            "test_a_palette_that_shows_zero_white_is_said",
        ),
        "stacks behind one header": (
            "test_a_stack_of_imagej_is_a_volume_with_its_spacing",
            "test_axes_of_ome",
            "test_slices_that_were_written_one_by_one_are_a_stack",
            "test_a_stack_cut_anywhere_is_refused_or_whole",
        ),
        "kinds of numbers and compressions": (
            "test_random_files_are_read_as_tifffile_reads_them",
            "test_colours_of_16_bits_keep_their_depth_and_extra_samples_are_dropped",
            "test_the_true_cause_is_named",
            "test_netpbm_keeps_the_numbers_that_others_scale",
        ),
        "label maps in floats": (
            "test_a_prediction_in_floats_loses_no_voxel_in_an_object",
            "test_label_maps_of_floats_are_rounded_or_refused_and_never_lose_voxels",
            "test_values_above_255_get_new_ones_in_their_order_and_the_old_are_kept",
        ),
        "an image turned and its mask not": (
            "test_image_and_mask_are_one_geometry_or_refused",
            "test_the_orientation_tag_of_a_stack_and_its_spacing",
            "test_pillow_agrees_on_all_orientations_and_the_spacing_turns_too",
        ),
    },
    "C": {
        "lists that name more": (
            "test_a_validation_list_is_the_fold",
            "test_fold_numbers_of_a_list_are_the_folds",
            "test_labelled_test_cases_keep_their_labels_and_stay_out_of_the_given_fold",
            "test_a_training_case_without_a_label_is_kept_without_one_and_named",
            "test_rows_of_scans_that_are_not_there_are_said",
        ),
        "nnU-Net's folders": (
            "test_only_what_the_dataset_entry_lists_is_of_the_data_set",
            "test_files_of_version_1_are_found_behind_their_names",
            "test_other_endings_are_converted",
            "test_splits_final_counts_where_there_is_no_other",
        ),
        "one file per class, and large values": (
            "test_masks_per_class_become_a_label_map",
            "test_values_above_255_get_new_ones_in_their_order_and_the_old_are_kept",
            "test_masks_that_are_none_are_refused_by_case",
        ),
        "patients": (
            "test_what_a_key_tells_of_the_patient",
            "test_time_points_in_numbers_are_warned_about_and_split_by_a_pattern",
            "test_keys_that_may_be_of_one_patient_are_warned_about",
            "test_a_given_split_with_a_patient_on_both_sides_is_not_taken",
        ),
        "numbers of patients as channels": (
            "test_a_number_without_a_first_channel_beside_it_is_a_name",
            "test_watch_takes_patients_for_patients",
            "test_two_inputs_never_write_one_output",
            "test_numbers_from_0000_are_patients_where_others_follow",
        ),
        "a second conversion": (
            "test_what_a_person_wrote_into_the_table_outlasts_the_next_conversion",
            "test_what_nobody_looked_at_stays_declared_for_corrected_labels",
            "test_what_the_source_says_anew_counts_before_what_was_changed",
            "test_the_table_of_a_folder_of_an_earlier_version_and_a_damaged_one",
        ),
        "links": (
            "test_images_behind_a_linked_folder_are_cases_too",
            "test_linked_folders_are_entered_once_and_by_their_own_path_if_they_have_one",
            "test_of_a_link_the_file_is_taken_that_it_names",
            "test_a_folder_that_cannot_be_listed_fails_as_a_damaged_file_does",
        ),
        "other formats": (
            "test_other_formats_are_read_or_named",
            "test_other_writers_files_lie_where_they_say",
            "test_what_is_no_folder_of_pictures_is_sent_to_its_reader",
        ),
    },
    "D": {
        "regions by name": (
            "test_the_case_of_another_order",
            "test_a_permuted_table_gives_the_same_dice",
            "test_quality_reads_each_folder_by_its_own_table",
            "test_a_code_pairs_what_is_named_otherwise_and_never_a_left_with_a_right",
        ),
        "channels by name": (
            "test_a_cohort_in_another_order_is_read_by_name",
            "test_members_with_other_orders_of_channels_and_regions_have_one_mean",
            "test_the_inference_of_monai_bundle_run_goes_by_name_as_predict_does",
        ),
        "predictions of others": (
            "test_labelled_cases_without_a_prediction_are_told",
            "test_quality_tells_what_the_further_folders_lack",
            "test_sets_that_failed_say_why_and_not_that_they_share_no_case",
            "test_one_hot_masks_are_named",
        ),
    },
    "E": {
        "nothing to validate or to learn": (
            "test_what_cannot_work_is_refused",
            "test_of_validations_that_say_nothing_the_last_is_kept",
            "test_what_is_invented_of_a_region_that_no_reference_has_is_undefined",
            "test_a_plan_calls_nan_by_its_name",
        ),
        "a run that was ended": (
            "test_a_signal_is_recorded_and_handlers_are_given_back",
            "test_a_killed_session_is_told_on_resume",
            "test_running_out_of_memory_is_recorded",
        ),
        "data that changed": (
            "test_a_label_that_was_edited_is_refused_unless_one_goes_on_anyway",
            "test_one_voxel_changes_the_word_and_a_copy_does_not",
            "test_what_changed_is_told_by_case_and_side",
        ),
        "a # in a path": (
            "test_monai_gives_a_path_back_as_it_was_typed",
            "test_references_expressions_and_macros_stay_what_they_are",
            "test_monais_own_command_is_refused_with_the_words_that_it_takes",
        ),
    },
    "F": {
        "base models": (
            "test_the_bundle_builds_each_base_model_on_a_cpu",
            "test_upernet_stands_on_any_backbone_that_transformers_takes",
            "test_vision_transformers_take_slices_of_any_shape",
        ),
        "the stem": (
            "test_colour_images_are_seen_as_the_published_network_sees_them",
            "test_a_stem_of_four_channels_stays_when_the_cohort_has_four",
            "test_other_numbers_keep_the_response_to_a_grey_image",
        ),
        "names of tensors": (
            "test_checkpoints_of_other_versions_of_transformers_load",
            "test_a_version_with_other_names_gives_those_of_now",
            "test_a_checkpoint_says_whose_it_is",
        ),
        "packs in other programs": (
            "test_monai_loads_every_tensor_and_writes_nothing",
            "test_monai_label_names_what_the_label_map_holds",
            "test_monai_deploy_hands_a_tensor_over_and_gets_the_label_map",
            "test_what_writes_files_is_left_out_by_both",
        ),
        "a fourth axis": (
            "test_a_fourth_axis_has_the_channels",
            "test_a_folder_of_the_decathlon",
            "test_incomplete_cases_are_named_one_by_one",
        ),
    },
}


@pytest.fixture(scope="module")
def there() -> set[str]:
    """The names of all tests."""
    files = TESTS.rglob("test_*.py")
    return {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)}


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_has_its_test_and_two_siblings(kind: str, there: set[str]) -> None:
    for fault, tests in KINDS[kind].items():
        assert len(set(tests)) > 2, fault
        assert there.issuperset(tests), (fault, sorted(set(tests) - there))
