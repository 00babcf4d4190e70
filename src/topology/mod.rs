//! YAML to a checked plan.

mod plan;

pub use plan::{Plan, PlanLink, PlanNode};
