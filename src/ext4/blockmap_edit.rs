// SPDX-License-Identifier: MIT OR Apache-2.0

//! Freeing what block maps hold, from the end of the file: in steps of bounded size, each of which leaves the map valid. Nothing
//! is ever added to a block map.

use core::ops::Range;

use super::Volume;
use super::alloc::Freed;
use super::blockmap::{BlockMapFault, NUMBER, SLOTS, numbers_per_block, reach, span};
use super::error::{Damage, Error};
use super::extent::Budget;
use super::field::{le32, put_le32};
use crate::mem::region::Region;

/// What is being freed.
struct Removal<'b> {
    /// The inode.
    number: u32,
    /// The first block of the file that goes.
    from: u64,
    content: Freed,
    budget: &'b mut Budget,
    /// Blocks that were freed, those of the map among them.
    freed: i64,
}

/// How far a removal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// All blocks below were freed, or there were none.
    Empty,
    /// What is left lies in front of the first block that goes.
    Done,
    /// The budget is spent.
    Paused,
}

impl<R: Region> Volume<R> {
    /// Frees blocks of `number`, which has a block map, from its end down to the block `from`, as far as `budget` goes; whether
    /// there may be more.
    pub(super) fn remove_mapped(
        &mut self,
        number: u32,
        from: u64,
        content: Freed,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        let block_size = self.superblock.block_size;
        let mut removal = Removal { number, from, content, budget, freed: 0 };
        let mut progress = Progress::Empty;
        let mut end = reach(block_size);
        for slot in (0..SLOTS).rev() {
            let first = end.saturating_sub(span(slot, block_size).into());
            let offset = usize::try_from(slot).map_or(usize::MAX, |slot| slot.saturating_mul(NUMBER));
            let block = le32(self.allocated_inode(number)?.i_block, offset);
            progress = self.remove_subtree(&mut removal, block, first..end)?;
            if progress != Progress::Empty {
                break;
            }
            if block != 0 {
                self.edit_inode(number, |inode| {
                    put_le32(inode.i_block(), offset, 0);
                    Ok(())
                })?;
            }
            end = first;
        }
        let freed = removal.freed;
        if freed > 0 {
            self.count_blocks(number, freed.saturating_neg())?;
        }
        Ok(progress == Progress::Paused)
    }

    /// Frees what goes of the blocks `covered`, which the number `block` stands for: itself if it is one. The number is not its own
    /// any more once it is [`Progress::Empty`].
    fn remove_subtree(
        &mut self,
        removal: &mut Removal<'_>,
        block: u32,
        covered: Range<u64>,
    ) -> Result<Progress, Error> {
        if block == 0 {
            return Ok(Progress::Empty);
        }
        if covered.end <= removal.from {
            return Ok(Progress::Done);
        }
        let number = u64::from(block);
        if !self.holds(number, 1) {
            let fault = BlockMapFault::Physical { logical: covered.start, block };
            return Err(Damage::BlockMap { inode: removal.number, fault }.into());
        }
        if covered.end.saturating_sub(covered.start) == 1 {
            return self.free_mapped(removal, number..number.saturating_add(1));
        }
        let count = numbers_per_block(self.superblock.block_size);
        let span = covered.end.saturating_sub(covered.start) / count;
        let mut left = u64::from(count);
        let mut progress = Progress::Empty;
        while let Some(last) = left.checked_sub(1) {
            let first = covered.start.saturating_add(last.saturating_mul(span));
            let child = self.number_at(number, last)?;
            // Blocks that follow each other are freed at once.
            let mut run = 1_u64;
            if span == 1 && child != 0 {
                while run <= last
                    && first.saturating_sub(run) >= removal.from
                    && u64::from(self.number_at(number, last.saturating_sub(run))?).saturating_add(run)
                        == u64::from(child)
                {
                    run = run.saturating_add(1);
                }
            }
            progress = if run > 1 {
                let child = u64::from(child);
                let start = child.saturating_add(1).saturating_sub(run);
                if !self.holds(start, run) {
                    let fault = BlockMapFault::Physical { logical: first, block };
                    return Err(Damage::BlockMap { inode: removal.number, fault }.into());
                }
                let before = removal.freed;
                let progress = self.free_mapped(removal, start..child.saturating_add(1))?;
                let freed = u64::try_from(removal.freed.saturating_sub(before)).unwrap_or(0);
                left = left.saturating_sub(freed);
                progress
            } else {
                let progress = self.remove_subtree(removal, child, first..first.saturating_add(span))?;
                left = if progress == Progress::Empty { last } else { left };
                progress
            };
            if progress != Progress::Empty {
                break;
            }
        }
        if left == 0 {
            self.free_blocks(number, 1, Freed::Metadata)?;
            removal.budget.take_node();
            removal.freed = removal.freed.saturating_add(1);
            return Ok(Progress::Empty);
        }
        if left < u64::from(count) {
            let gone = usize::try_from(left).map_or(usize::MAX, |left| left.saturating_mul(NUMBER));
            self.block_mut(number)?.get_mut(gone..).unwrap_or_default().fill(0);
        }
        Ok(progress)
    }

    /// Frees as much of the blocks `run`, from their end, as the budget has left.
    fn free_mapped(&mut self, removal: &mut Removal<'_>, run: Range<u64>) -> Result<Progress, Error> {
        let length = run.end.saturating_sub(run.start);
        let groups = (
            u64::from(self.superblock.s_first_data_block),
            u64::from(self.superblock.s_blocks_per_group.get()),
        );
        let taken = removal.budget.take((run.start, length), removal.content, groups);
        if taken > 0 {
            let start = run.end.saturating_sub(taken);
            self.free_blocks(start, u32::try_from(taken).unwrap_or(u32::MAX), removal.content)?;
            removal.freed = removal.freed.saturating_add_unsigned(taken);
        }
        Ok(if taken == length { Progress::Empty } else { Progress::Paused })
    }

    /// The number at `index` of the block `block` of a map.
    fn number_at(&self, block: u64, index: u64) -> Result<u32, Error> {
        let offset = usize::try_from(index).map_or(usize::MAX, |index| index.saturating_mul(NUMBER));
        Ok(le32(self.block(block)?, offset))
    }
}

#[cfg(test)]
mod tests {
    use crate::ext4::testing::{Image, pattern, read};
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_block_map_is_freed_in_steps_from_its_end() {
        for block_size in ["1024", "4096"] {
            let image = Image::new("24M", &["-t", "ext3", "-b", block_size, "-J", "size=4"], |root| {
                let file = File::create(root.join("file")).unwrap();
                file.write_all_at(&pattern(3_000_000), 0).unwrap();
                for piece in 0..300 {
                    file.write_all_at(b"piece", 4_000_000 + piece * 30_011).unwrap();
                }
                file.write_all_at(b"far", 100_000_000).unwrap();
            });
            // As `tune2fs -O extents` leaves it: old files keep their maps.
            image.debugfs("feature extents");
            let number = image.inode("/file");
            let mut volume = image.mount_writable();
            let all = read(&volume, number, 0, u32::MAX).unwrap();
            for size in [100_000_001, 100_000_000, 13_000_000, 4_000_001, 2_999_999, 300_000, 12 << 10, 5, 0]
            {
                volume
                    .atomically(|volume| {
                        volume.edit_inode(number, |inode| {
                            inode.set_size(size);
                            Ok(())
                        })
                    })
                    .unwrap();
                let mut steps = 1;
                while volume.atomically(|volume| volume.free_content_step(number, size)).unwrap() {
                    steps += 1;
                }
                assert!(steps < 20, "{size}: {steps}");
                let size = usize::try_from(size).unwrap();
                assert!(read(&volume, number, 0, u32::MAX).unwrap() == all[..size]);
                image.check(volume);
                volume = image.mount_writable();
            }
            assert_eq!(volume.inode(number).unwrap().blocks512, 0);
            image.check(volume);
        }
    }
}
