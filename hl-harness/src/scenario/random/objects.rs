//! What handles name: blocks, device memory, command buffers.

use super::{Block, MOST, Model, Piece};

impl Model {
    pub(super) fn block(&mut self) {
        let Some(index) = self
            .index(self.blocks.len())
            .filter(|_| self.chance.below(3) > 0)
        else {
            if self.blocks.len() < MOST {
                let (name, pages) = (self.fresh(), 1 + self.chance.below(5));
                self.say(format!("block c1 k{name} {pages} * page -> h{name}"));
                self.blocks.push(Block {
                    name,
                    pages,
                    content: None,
                    shown: false,
                });
            }
            return;
        };
        let number = self.fresh();
        let Some(block) = self.blocks.get_mut(index) else {
            return;
        };
        let Block {
            name,
            pages,
            content,
            shown,
        } = *block;
        let choice = self.chance.below(4);
        // There is one view at a time, which a child may have.
        let viewed = self
            .children
            .iter()
            .any(|child| child.views.contains(&name));
        let line = match (choice, shown, content) {
            (0, ..) => {
                block.content = Some(number);
                format!("dma write privileged k{name} {pages} * page pattern {number}")
            }
            (1, false, _) if !viewed => {
                block.shown = true;
                format!("mmap c1 h{name} as v{name} {pages} * page")
            }
            (1 | 2, true, Some(number)) => format!("read v{name} expect pattern {number}"),
            (2, false, _) => format!("dma read c1 k{name} 8 -> ok or EINVAL"),
            (_, true, _) => {
                block.shown = false;
                format!("munmap v{name}")
            }
            (_, false, _) => {
                self.blocks.swap_remove(index);
                format!("destroy c1 h{name}")
            }
        };
        // Its address may be one that the user has too.
        if !line.starts_with("dma read c1") {
            self.say(line);
        }
    }

    pub(super) fn piece(&mut self) {
        let Some(index) = self
            .index(self.pieces.len())
            .filter(|_| self.chance.below(3) > 0)
        else {
            if self.pieces.len() < MOST {
                let name = self.fresh();
                self.say(format!("alloc c1 1 -> d{name}"));
                self.pieces.push(Piece {
                    name,
                    content: None,
                    mapped: false,
                });
            }
            return;
        };
        let number = self.fresh();
        let maps_dram = self.maps_dram;
        let choice = self.chance.below(3);
        let Some(piece) = self.pieces.get_mut(index) else {
            return;
        };
        let Piece {
            name,
            content,
            mapped,
        } = *piece;
        match (choice, mapped, content) {
            (0, true, Some(number)) => {
                self.say(format!(
                    "dma read c1 p{name} 3 * page expect pattern {number}"
                ));
            }
            (0 | 1, true, _) => {
                piece.content = Some(number);
                self.say(format!("free c1 d{name} -> fails EINVAL"));
                self.say(format!("dma write c1 p{name} 3 * page pattern {number}"));
            }
            (_, true, _) => {
                piece.mapped = false;
                self.say(format!("unmap c1 p{name}"));
                self.say(format!("dma read c1 p{name} 8 -> faults at p{name}"));
            }
            (0 | 1, false, _) if maps_dram => {
                piece.mapped = true;
                self.say(format!("map c1 dram d{name} -> p{name}"));
            }
            (_, false, _) => {
                self.pieces.swap_remove(index);
                self.say(format!("free c1 d{name}"));
                self.say(format!("free c1 d{name} -> fails EINVAL"));
            }
        }
    }

    pub(super) fn command_buffer(&mut self) {
        if self.command_buffers.len() < 3 && self.chance.below(2) == 0 {
            let name = self.fresh();
            self.say(format!("cb create c1 3 * page mapped -> q{name}"));
            self.say(format!("cb address c1 q{name} -> a{name}"));
            self.say(format!("dma read c1 a{name} 3 * page expect byte 0"));
            self.command_buffers.push(name);
        } else if let Some(index) = self.index(self.command_buffers.len()) {
            let name = self.command_buffers.swap_remove(index);
            self.say(format!("unmap c1 a{name} -> fails EINVAL"));
            self.say(format!("cb destroy c1 q{name}"));
            self.say(format!("dma read c1 a{name} 8 -> faults at a{name}"));
        }
    }
}
