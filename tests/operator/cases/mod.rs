//! The cases.

mod budgets;
mod complete;
mod configs;
mod conflicts;
mod containers;
mod daemons;
mod gates;
mod images;
mod input;
mod leader;
mod life;
mod requests;
mod rollout;
mod stateful;
mod versions;

use std::pin::Pin;
use std::rc::Rc;

use crate::case::Case;

/// A case.
pub(crate) type Function = fn(Rc<Case>) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! cases {
    ($name:ident: $($module:ident::$case:ident,)*) => {
        pub(crate) const $name: &[(&str, Function)] =
            &[$((stringify!($case), |case| Box::pin(async move { $module::$case(&case).await }))),*];
    };
}

// Those that may run side by side.
cases!(TOGETHER:
    requests::a_request_takes_its_pod_out_of_service_and_back,
    requests::a_template_asks_for_restarts,
    life::created_pods_have_what_others_rely_on,
    life::scale_by_the_subresource,
    life::pods_to_delete_go_first,
    life::a_pod_marked_for_deletion_is_replaced,
    life::recreate_within_the_budget,
    life::surge_serves_all_the_time,
    life::history_is_truncated,
    life::claims_come_and_go_with_their_pods,
    life::claims_are_taken_again_when_pods_are_deleted_by_hand,
    life::a_pending_pod_prepares_for_its_normal_life,
    life::pods_are_adopted_and_released,
    life::a_pod_that_is_refused_is_told_by_an_event,
    life::a_hook_holds_the_deletion,
    life::a_pod_is_available_only_after_min_ready_seconds,
    rollout::in_place_within_the_budget,
    rollout::several_containers_restart_once_each,
    rollout::labels_change_without_a_restart,
    rollout::surge_first_and_then_in_place,
    rollout::recreated_where_in_place_is_impossible,
    rollout::in_place_only_says_what_is_in_the_way,
    rollout::on_delete,
    rollout::partition_and_then_the_rest,
    rollout::paused,
    rollout::grace_period,
    rollout::rolled_back_in_the_grace_period,
    rollout::a_hook_by_label_holds_the_update,
    rollout::a_hook_by_finalizer_holds_the_update,
    rollout::rolled_back_while_a_hook_holds,
    containers::environment_from_metadata_restarts_once,
    containers::resources_change_without_a_restart,
    containers::containers_start_in_their_order,
    images::same_digest_under_another_tag,
    images::default_registry_spelled_out_and_not,
    images::by_digest,
    images::missing_then_fixed_forward,
    images::missing_then_rolled_back,
    images::rolled_back_during_the_pull,
    complete::old_container_crashes_in_the_grace_period,
    complete::old_container_crashes_after_the_write,
    complete::crash_after_completion,
    configs::a_changed_config_map_restarts_who_reads_it,
    configs::missing_configs_restart_nothing,
    configs::secret_configs_in_pods_of_ordinals,
    configs::daemons_read_configs,
    budgets::a_budget_guards_its_pods,
    budgets::resizes_are_guarded_if_that_is_said,
    budgets::two_budgets_are_not_about_the_same_pods,
    budgets::a_target_may_own_its_pods_through_a_replica_set,
    budgets::a_rollout_heeds_a_budget,
    budgets::an_eviction_waits_for_the_replacement,
    daemons::a_daemon_on_every_node,
    daemons::daemons_change_in_place,
    daemons::daemons_surge_on_their_node,
    daemons::daemons_are_where_they_suit,
    daemons::a_daemon_that_fails_is_replaced,
    daemons::a_hook_holds_a_daemon,
    daemons::daemon_sets_are_openkruises,
    daemons::both_versions_are_one_daemon_set,
    stateful::pods_of_ordinals_come_and_go_in_order,
    stateful::ordinals_are_updated_in_place_from_the_last_to_the_first,
    stateful::ordinals_are_recreated_one_after_the_other,
    stateful::a_partition_keeps_the_first_ordinals,
    stateful::a_broken_revision_of_ordinals_is_taken_back,
    stateful::all_ordinals_at_once,
    stateful::reserved_ordinals_and_a_start,
    stateful::claims_stay_and_belong_to_whom_the_policy_says,
    stateful::a_claim_that_cannot_grow_is_told_of,
    stateful::a_pod_of_an_ordinal_is_adopted_released_and_replaced,
    stateful::stateful_sets_look_as_openkruise_leaves_them,
    stateful::bad_stateful_sets_are_refused_by_name,
    input::both_versions_are_one_object,
    input::defaults_are_those_of_openkruise,
    input::defaults_and_unknown_fields,
    input::bad_values_are_refused_by_name,
    input::selector_is_immutable,
);

// Those that need the operator or the nodes for themselves.
cases!(ALONE:
    complete::old_image_restarts_before_the_node_sees_the_write,
    complete::rolled_back_before_the_node_sees_the_write,
    conflicts::a_chatty_kubelet_costs_no_update,
    leader::an_idle_operator_writes_nothing,
    versions::keys_and_stored_versions_are_kept,
    leader::killed_in_the_middle_of_a_rollout,
    leader::hand_over,
    budgets::without_the_operator_pods_go,
    gates::those_that_are_on_act,
);
