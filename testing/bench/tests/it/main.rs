//! The benchmark as it is called, in the only part that needs no other binary.

use std::process::Command;

#[test]
fn the_decision_part_gives_a_table_and_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_switchtower-bench"))
        .args(["--only", "decision", "--quick", "--date", "2026-01-31", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.starts_with("2026-01-31 on "), "{out}");
    assert!(out.contains("| what | goal | measured | baseline | ratio | met |"), "{out}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5, "{report:#}");
    for row in rows {
        assert!(row["measured"]["median"].is_f64() && row["verdict"] != "failed", "{row:#}");
    }
}
