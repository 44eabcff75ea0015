// SPDX-License-Identifier: MIT OR Apache-2.0

//! Random changes of many attributes, compared with a map after each, and with `debugfs` and `e2fsck` at the end. With
//! `SKERRY_LONG=1`, more of them.

use super::*;
use crate::ext4::testing::{Numbers, repeats};
use std::collections::BTreeMap;
use std::string::String;

type Model = BTreeMap<String, Vec<u8>>;

/// Names of every namespace, short and long, and with bytes above 127.
fn name(numbers: &mut Numbers) -> String {
    let prefix = ["user.", "trusted.", "security."][numbers.below(3)];
    let rest = match numbers.below(7) {
        0 => "name",
        1 => "much longer, but not too long",
        2 => "x",
        3 => "größer",
        4 => "abcd",
        5 => "ü",
        _ => "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    };
    format!("{prefix}{}", rest.replace(' ', "_"))
}

/// Lengths from nothing to more than fits, most of them short.
fn value(numbers: &mut Numbers, block_size: usize) -> Vec<u8> {
    let limit = [1, 8, 40, 120, 500, block_size + 100][numbers.below(6)];
    (0..numbers.below(limit)).map(|_| b'a' + numbers.byte() % 26).collect()
}

/// What the attributes take in a place at most.
fn space(model: &Model) -> usize {
    model.iter().map(|(name, value)| 16 + (name.len() + 3) + (value.len() + 3)).sum()
}

fn assert_same(volume: &TestVolume, number: u32, model: &Model) {
    let listed = names(volume, number).unwrap();
    let mut listed: Vec<_> = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    listed.sort_unstable();
    assert_eq!(listed, model.keys().map(String::as_bytes).collect::<Vec<_>>());
    for (name, value) in model {
        assert_eq!(get(volume, number, name).as_ref(), Ok(value), "{name}");
    }
}

/// Works on a volume made with `options`; how many changes found no room.
fn churn(options: &[&str], seed: u64) -> u32 {
    let image = image("8M", options);
    let files: Vec<_> = ["/f", "/g", "/d"].into_iter().map(|path| (path, image.inode(path))).collect();
    let mut volume = image.mount_writable();
    let block_size = volume.superblock().block_size.length();
    let mut models = [const { Model::new() }; 3];
    let mut numbers = Numbers(seed);
    let mut refused = 0;
    for step in 0..repeats(300, 800) {
        let file = numbers.below(files.len());
        let (number, model) = (files[file].1, &mut models[file]);
        let name = name(&mut numbers);
        let exists = model.contains_key(&name);
        if numbers.below(3) == 0 {
            let expected = if exists { Ok(()) } else { Err(Errno::ENODATA.into()) };
            assert_eq!(remove(&mut volume, number, &name), expected, "step {step}");
            model.remove(&name);
        } else {
            let value = value(&mut numbers, block_size);
            let existence =
                [AttributeExistence::Any, AttributeExistence::Absent, AttributeExistence::Present]
                    [numbers.below(3)];
            let result = write(&mut volume, number, &name, Some(&value), existence);
            match existence {
                AttributeExistence::Absent if exists => assert_eq!(result, Err(Errno::EEXIST.into())),
                AttributeExistence::Present if !exists => assert_eq!(result, Err(Errno::ENODATA.into())),
                _ => {
                    let before = model.insert(name.clone(), value);
                    if result.is_err() {
                        assert_eq!(result, Err(Errno::ENOSPC.into()), "step {step}");
                        assert!(space(model) > block_size - 36, "step {step}: it would fit the block");
                        refused += 1;
                        match before {
                            Some(before) => model.insert(name, before),
                            None => model.remove(&name),
                        };
                    }
                }
            }
        }
        assert_same(&volume, number, model);
    }
    image.check(volume);
    let volume = image.mount();
    for ((path, number), model) in files.iter().zip(&models) {
        assert_same(&volume, *number, model);
        assert_eq!(debugfs_count(&image, path), model.len());
        for (name, value) in model {
            assert_eq!(debugfs_get(&image, path, name), *value, "{name}");
        }
    }
    refused
}

#[test]
fn whatever_is_done_the_attributes_are_those_of_a_map() {
    let mut refused = 0;
    for (index, options) in [
        &["-b", "1024", "-I", "128"][..],
        &["-b", "1024", "-I", "256"],
        &["-b", "1024", "-I", "1024"],
        &["-b", "2048", "-I", "512"],
        &["-b", "4096", "-I", "256"],
        &["-b", "4096", "-I", "4096", "-N", "64"],
        &["-b", "1024", "-I", "256", "-O", "^metadata_csum,uninit_bg"],
        &["-b", "4096", "-I", "1024", "-O", "^metadata_csum,^64bit"],
    ]
    .iter()
    .enumerate()
    {
        refused += churn(options, 0x5eed + index as u64);
    }
    assert!(refused > 40, "too few changes found no room: {refused}");
}
