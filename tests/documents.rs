// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the documents name is there: files of the repository, and tests that are said to show something.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the code is that serves.
const SERVED: [&str; 3] = ["src", "boot/src", "host/src"];

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// All documents.
fn documents() -> Vec<(String, String)> {
    let mut files = vec![root().join("README.md")];
    files.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    let read = |file: PathBuf| (file.display().to_string(), fs::read_to_string(&file).unwrap());
    files.into_iter().map(read).collect()
}

/// What stands between back-quotes in `text`, code blocks apart.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.split("```").step_by(2).flat_map(str::lines);
    lines.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// All sources below the place, or the one that it is, in order.
fn rust_files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let mut files: Vec<PathBuf> = fs::read_dir(place)
        .unwrap()
        .flat_map(|entry| rust_files(&entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
}

/// What all sources below the directories say.
fn code_of(directories: &[&str]) -> String {
    let files = directories.iter().flat_map(|directory| rust_files(&root().join(directory)));
    files.map(|file| fs::read_to_string(file).unwrap()).collect()
}

#[test]
fn the_tests_that_the_documents_name_are_in_the_sources() {
    let code = code_of(&["src", "boot/src", "host/src", "tests", "fuzz"]);
    // A test's name is a sentence. The few statistics that look like one are in the sources as well.
    let is_test = |name: &&str| {
        name.matches('_').count() >= 4
            && name.chars().all(|letter| letter == '_' || letter.is_ascii_alphanumeric())
            && name.starts_with(|letter: char| letter.is_ascii_lowercase())
    };
    let mut named = 0;
    for (document, text) in documents() {
        for name in quoted(&text).filter(is_test) {
            named += 1;
            assert!(code.contains(name), "{document} names {name}, which is nowhere");
        }
    }
    assert!(named >= 10, "{named} tests are named");
}

#[test]
fn the_files_that_the_documents_name_exist() {
    let mut named = 0;
    for (document, text) in documents() {
        let starts = ["src/", "boot/", "host/", "tests/", "fuzz/", "docs/"];
        for path in quoted(&text).filter(|quoted| starts.iter().any(|start| quoted.starts_with(start))) {
            let path = path.split([' ', ':']).next().unwrap();
            if path.contains(['*', '<', '{']) || path.chars().any(|letter| letter.is_ascii_uppercase()) {
                continue;
            }
            named += 1;
            assert!(root().join(path).exists(), "{document} names {path}, which is nowhere");
        }
    }
    assert!(named >= 50, "{named} files are named");
}

/// Code that is built into what serves: without tests, empty lines and comments.
fn served_code(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.map(str::to_owned).collect()
}

/// Names of the modules that are built for tests only.
fn test_modules() -> BTreeSet<String> {
    let code = code_of(&SERVED);
    let declared = code.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let (_, name) = rest.split_once('\n')?.0.split_once("mod ")?;
        Some(name.strip_suffix(';')?.to_owned())
    });
    declared.collect()
}

/// All sources below the place, or the one that it is, but for those of the modules `tests`.
fn served_files(place: &Path, tests: &BTreeSet<String>) -> Vec<PathBuf> {
    let is_test = |file: &PathBuf| {
        let below = file.strip_prefix(place).unwrap().with_extension("");
        below.iter().any(|name| name.to_str().is_some_and(|name| tests.contains(name)))
    };
    rust_files(place).into_iter().filter(|file| !is_test(file)).collect()
}

/// The lines of a table of `docs/threat-model.md` whose first cell is a quoted path: that, and the number behind it.
fn figures(heading: &str) -> Vec<(String, usize)> {
    let text = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let table = text.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    let lines =
        table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let figure = |line: &str| {
        let path = line.split('`').nth(1)?;
        let number = line.rsplit('|').nth(1)?.trim().replace(' ', "").parse().ok()?;
        Some((path.to_owned(), number))
    };
    lines.filter_map(figure).collect()
}

#[test]
fn the_table_of_unsafe_code_is_right() {
    let told = figures("| file | `unsafe` |");
    let mut found = Vec::new();
    let tests = test_modules();
    for place in SERVED {
        for file in served_files(&root().join(place), &tests) {
            let uses = |line: &String| {
                ["unsafe {", "unsafe impl", "unsafe extern"]
                    .iter()
                    .map(|form| line.matches(form).count())
                    .sum::<usize>()
            };
            let count: usize = served_code(&file).iter().map(uses).sum();
            if count > 0 && !file.starts_with(root().join("host/src/bench")) {
                found.push((file.strip_prefix(root()).unwrap().display().to_string(), count));
            }
        }
    }
    let rows: String = found.iter().map(|(file, count)| format!("| `{file}` | {count} |\n")).collect();
    assert!(told == found, "the table should be\n{rows}");
}

#[test]
fn the_table_of_code_that_takes_hostile_bytes_is_right_within_a_tenth() {
    let told = figures("| code | lines |");
    assert!(told.len() >= 5, "{told:?}");
    let tests = test_modules();
    for (place, lines) in told {
        let found: usize =
            served_files(&root().join(&place), &tests).iter().map(|file| served_code(file).len()).sum();
        assert!(found.abs_diff(lines) * 10 <= found, "{place} has {found} lines, and {lines} are told");
    }
}
