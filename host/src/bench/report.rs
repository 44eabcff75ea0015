// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a benchmark leaves: a table on standard output, and files in `target/bench/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::statistics::Sample;
use crate::workspace;

/// A table, filled row by row.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one with these columns.
    #[must_use]
    pub fn new(columns: &[&str]) -> Self {
        Self { rows: vec![columns.iter().map(|&column| column.to_owned()).collect()] }
    }

    /// Appends a row, which has a cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, in Markdown: the first column to the left, the others to the right.
    #[must_use]
    pub fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let padded =
                    if column == 0 { format!("| {cell:<width$} ") } else { format!("| {cell:>width$} ") };
                text.push_str(&padded);
            }
            text.push_str("|\n");
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width + 1);
                    text.push_str(&if column == 0 { format!("|-{dashes}") } else { format!("|{dashes}:") });
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

/// A number with three digits that count, and a space after each group of three before the point.
#[must_use]
pub fn number(value: f64) -> String {
    if value < 99.95 {
        return if value < 9.995 { format!("{value:.2}") } else { format!("{value:.1}") };
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// What stands in a cell for which there is no figure.
pub const NONE: &str = "—";

/// How many times as much, in a cell.
#[must_use]
pub fn times(ratio: Option<f64>) -> String {
    ratio.map_or(NONE.to_owned(), |ratio| format!("{ratio:.2}×"))
}

/// A spread, in a cell.
#[must_use]
pub fn percent(spread: Option<f64>) -> String {
    spread.map_or(NONE.to_owned(), |spread| format!("{:.0} %", 100.0 * spread))
}

/// A median with its spread, in a cell.
#[must_use]
pub fn median_and_spread(sample: &Sample) -> String {
    match sample.median() {
        Some(median) => format!("{} ({})", number(median), percent(sample.spread())),
        None => NONE.to_owned(),
    }
}

/// What is said of a target.
#[must_use]
pub fn reached(is_reached: bool) -> &'static str {
    if is_reached { "reached" } else { "not reached" }
}

/// Draws the chart `name` with `draw`, and says where it is.
///
/// # Errors
/// If it cannot be drawn.
pub fn draw(name: &str, draw: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let file = path(name, "svg")?;
    draw(&file)?;
    println!("drawn: {}", file.display());
    Ok(())
}

/// Where the files of the benchmark `name` with the extension `extension` go; the directory is made.
///
/// # Errors
/// If it cannot be.
fn path(name: &str, extension: &str) -> Result<PathBuf> {
    let directory = workspace::target().join("bench");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory.join(format!("{name}.{extension}")))
}

/// Writes what was measured, with the machine it was measured on, to `target/bench/NAME.json`.
///
/// # Errors
/// If it cannot be written.
pub fn write_json(name: &str, figures: &Value) -> Result<PathBuf> {
    let path = path(name, "json")?;
    let all = json!({ "benchmark": name, "machine": machine(), "figures": figures });
    fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The processor and how many of them there are.
#[must_use]
pub fn machine() -> Value {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models = || text.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({ "processor": models().next().map(|(_, name)| name), "processors": models().count() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_small_ones_keep_their_digits() {
        let shown: Vec<String> = [0.5, 9.99, 31.25, 100.0, 1234.5, 1_234_567.0].map(number).into();
        assert_eq!(shown, ["0.50", "9.99", "31.2", "100", "1 234", "1 234 567"]);
    }

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new(&["what", "figure"]);
        table.row(vec!["a".to_owned(), "1 000 000".to_owned()]);
        table.row(vec!["longer".to_owned(), NONE.to_owned()]);
        assert_eq!(
            table.render(),
            "| what   |    figure |\n|--------|----------:|\n| a      | 1 000 000 |\n| longer |         — |\n"
        );
    }
}
