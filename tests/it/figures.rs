//! What benchmarks take for a success.

#[path = "../../benches/containers/figures.rs"]
mod judged;

use judged::{failed, met};
use serde_json::{Value, json};

fn row(measured: f64, asked: Option<f64>, aim: Option<f64>, better: &str) -> Value {
    json!({"measured": measured, "asked": asked, "aim": aim, "better": better})
}

#[test]
fn only_what_was_asked_for_makes_a_benchmark_fail() {
    for (measured, asked, better, is_failed) in [
        (0.5, Some(0.6), "higher", true),
        (0.6, Some(0.6), "higher", false),
        (0.6, Some(0.5), "lower", true),
        (0.5, Some(0.5), "lower", false),
        (0.5, None, "lower", false),
    ] {
        assert_eq!(failed(&row(measured, asked, None, better)), is_failed, "{measured} {asked:?} {better}");
    }
    let aim = row(0.5, None, Some(0.6), "higher");
    assert_eq!((failed(&aim), met(&aim, "aim"), met(&aim, "asked")), (false, Some(false), None));
}

#[test]
fn what_is_no_number_was_not_met() {
    for measured in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for better in ["higher", "lower"] {
            let asked = row(measured, Some(0.6), None, better);
            assert!(failed(&asked) && met(&asked, "asked") == Some(false), "{measured} {better}");
            assert!(failed(&row(measured, None, None, better)), "{measured} {better}");
        }
    }
}
