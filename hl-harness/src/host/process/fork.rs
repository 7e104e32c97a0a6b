//! Forks: a child has the memory of its parent, and neither sees what the other writes from then on.
//!
//! # Pinned pages
//!
//! A page is shared until the first of the two writes, who then gets a copy. That must not happen to a
//! page that a device has: the parent would go on with the copy, and the device with the page that
//! nobody looks at any more. So a pinned page stays with its parent, and it is the child that gets a
//! copy, at the fork; and a page that is still shared when it is to be pinned is copied first, whatever
//! it is pinned for. No page with a pin is ever shared by a fork.

use super::{Process, UserPage};
use crate::host::{FrameOwner, OutOfFrames};

impl Process {
    /// A new process with this one's own memory, at the same addresses with the same permissions: shared
    /// until either writes, but for pages that are pinned, of which the child has copies at once. Blocks
    /// of the kernel are not copied: [`copy_to`](Self::copy_to) does that, for whoever counts their
    /// views. A [`View`](super::View) that somebody made of the process's own memory goes on showing the
    /// pages of before.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`]: there is no room for the copies; there is no child then.
    pub fn fork(&self) -> Result<Self, OutOfFrames> {
        let host = &self.shared.host;
        let child = host.spawn();
        let owner = FrameOwner::User(child.id());
        let mut space = self.shared.space();
        // Only the child knows its space so far: nobody holds its lock and waits for this one.
        let mut copies = child.shared.space();
        copies.next = space.next;
        for (number, page) in &mut space.pages {
            if let FrameOwner::Kernel(_) = host.owner(page.frame) {
                continue;
            }
            let copy = match host.pins(page.frame) {
                0 => {
                    host.reference_all(&[page.frame]);
                    page.shared = true;
                    *page
                }
                _ => UserPage {
                    frame: host.copy_frame(page.frame, owner)?,
                    shared: false,
                    ..*page
                },
            };
            copies.pages.insert(*number, copy);
        }
        drop(copies);
        Ok(child)
    }

    /// The process has the page at an address for itself from now on.
    pub(super) fn unshare(&self, page: &mut UserPage) -> Result<(), OutOfFrames> {
        if !page.shared {
            return Ok(());
        }
        let host = &self.shared.host;
        let owner = FrameOwner::User(self.shared.id);
        if !host.keep_alone(page.frame, owner) {
            let copy = host.copy_frame(page.frame, owner)?;
            host.release_all(&[page.frame]);
            page.frame = copy;
        }
        page.shared = false;
        Ok(())
    }
}
