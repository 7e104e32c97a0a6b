//! What all MMUs have in common: the order of steps, the record of roots, and doubt after a
//! time-out.

use core::fmt;

use mmu_core::{AddrRange, BusAddr, DeviceAddr, Extent, Format, Invalidate, Stale};

use crate::asid::Asid;

use super::roots::Roots;
use super::{Fault, MmuControl, MmuError, Walks};

/// The register protocol of one MMU generation. To add one, write one file with a type that
/// implements this; all decisions are made in [`Mmu`], which is put [over](Mmu::over) it.
///
/// # Safety
///
/// 1. The MMU walks tables of `Format`, set up like that by `prepare`.
/// 2. `Ok` of a function says that the hardware reported what it was asked for: the root is taken over
///    ([`point`](Self::point)), what is named is in no cache ([`drop_all`](Self::drop_all),
///    [`drop_range`](Self::drop_range)), the MMU is read to be enabled or disabled
///    ([`switch`](Self::switch)).
/// 3. [`drop_range`](Self::drop_range) does not return `Ok` while accesses that began before can still
///    bring back what it dropped.
#[expect(
    unsafe_code,
    reason = "a wrong implementation hands memory in use by the device to others"
)]
pub unsafe trait Hardware {
    /// The format of the tables that it walks.
    type Format: Format;

    /// Whether `root` can be a root table; the check that [`point`](Self::point) relies on.
    fn check_root(&self, root: BusAddr) -> Result<(), MmuError>;

    /// Makes `root` the root of an ASID, and waits until the hardware has taken it over.
    fn point(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError>;

    /// Sets up everything but the roots, with the MMU disabled.
    fn prepare(&mut self) -> Result<(), MmuError>;

    /// Enables or disables, and reads back whether it did. Disabling reaches every instance even
    /// if one of them fails.
    fn switch(&mut self, on: bool) -> Result<(), MmuError>;

    /// Invalidates everything and waits for the end.
    fn drop_all(&mut self) -> Result<(), MmuError>;

    /// Invalidates at least a range of one ASID, and all pointers to tables, and waits for the
    /// end.
    fn drop_range(&mut self, asid: Asid, range: AddrRange<DeviceAddr>) -> Result<(), MmuError>;

    /// Drops what caches of upper hops may remember as absent.
    fn announce(&mut self) -> Result<(), MmuError>;

    /// Takes one captured fault, as [`MmuControl::next_fault`].
    fn next_fault(&mut self, from: &mut u32) -> Result<Option<Fault>, MmuError>;
}

/// The driver of an MMU with `ASIDS` address spaces, one of which is the privileged one.
///
/// Named by its aliases: [`GoyaMmu`](super::GoyaMmu), [`GaudiMmu`](super::GaudiMmu),
/// [`Gaudi2HostMmu`](super::Gaudi2HostMmu) and [`Gaudi2DramMmu`](super::Gaudi2DramMmu).
pub struct Mmu<H, const ASIDS: usize> {
    hardware: H,
    parking: BusAddr,
    roots: Roots<ASIDS>,
    enabled: bool,
    /// An invalidation failed, and may end while a later one is waited for.
    invalidation_in_doubt: bool,
    /// The same of taking over a root.
    root_in_doubt: bool,
}

impl<H: Hardware, const ASIDS: usize> Mmu<H, ASIDS> {
    /// A driver over the registers of `hardware`, which it neither touches nor trusts before it is
    /// [enabled](MmuControl::enable). `parking` is the
    /// [parking table](crate::mmu#parked-address-spaces).
    #[must_use]
    pub const fn over(hardware: H, parking: BusAddr) -> Self {
        Self {
            hardware,
            parking,
            roots: Roots::new(),
            enabled: false,
            invalidation_in_doubt: false,
            root_in_doubt: false,
        }
    }

    fn ready(&self) -> Result<(), MmuError> {
        if self.enabled {
            Ok(())
        } else {
            Err(MmuError::Disabled)
        }
    }

    /// Everything that comes before enabling.
    fn bring_up(&mut self) -> Result<(), MmuError> {
        self.hardware.check_root(self.parking)?;
        self.hardware.switch(false)?;
        self.hardware.prepare()?;
        for asid in Roots::<ASIDS>::asids() {
            self.point(asid, self.parking)?;
        }
        self.forget(None)
    }

    fn point(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError> {
        let doubt = core::mem::replace(&mut self.root_in_doubt, true);
        if doubt {
            self.hardware.point(asid, root)?;
        }
        self.hardware.point(asid, root)?;
        self.root_in_doubt = false;
        Ok(())
    }

    /// Invalidates a range of an ASID, or everything.
    fn forget(&mut self, part: Option<(Asid, AddrRange<DeviceAddr>)>) -> Result<(), MmuError> {
        let doubt = core::mem::replace(&mut self.invalidation_in_doubt, true);
        match part {
            _ if doubt => {
                // The end of the first may be that of the one which failed. The second begins
                // with nothing left to be confused with.
                self.hardware.drop_all()?;
                self.hardware.drop_all()?;
            }
            Some((asid, range)) => self.hardware.drop_range(asid, range)?,
            None => self.hardware.drop_all()?,
        }
        if doubt || part.is_none() {
            self.roots.all_forgotten();
        }
        self.invalidation_in_doubt = false;
        Ok(())
    }

    /// Gives an ASID a root, or the parking table.
    fn replace_root(&mut self, asid: Asid, root: Option<BusAddr>) -> Result<(), MmuError> {
        let table = root.unwrap_or(self.parking);
        self.ready()?;
        self.hardware.check_root(table)?;
        let before = self.roots.begin(asid)?;
        self.point(asid, table)?;
        self.roots.finish(asid, before, root);
        Ok(())
    }
}

#[expect(unsafe_code, reason = "what the hardware confirmed, this passes on")]
// SAFETY:
// 1. The only ways to `Ok` are a `forget` of at least what `stale` covers, confirmed by the hardware,
//    and a `stale` that covers nothing. A part is enough only
//    where `Roots` knows the one ASID under which translations of `stale.root` can have been made. The registers are
//    the device's and the device is of this kind by the contract of `Registers`, so that the
//    confirmation is about the caches of this MMU.
// 2. Hardware of this family reports an invalidation as done after the accesses that were under
//    way; see "Certainty" in the module's documentation.
// 3. The entries were cleared, and seen to arrive, before the call, and `Registers` keeps the order
//    of that and the request. A confirmation that may belong to an earlier request is not
//    believed.
unsafe impl<H: Hardware, const ASIDS: usize> Invalidate for Mmu<H, ASIDS> {
    type Error = MmuError;

    fn invalidate(&mut self, stale: &Stale) -> Result<(), MmuError> {
        let part = match stale.extent {
            Extent::Nothing if !stale.tables => return Ok(()),
            Extent::Range(range) => self
                .roots
                .only_asid_of(stale.root)
                .map(|asid| (asid, range)),
            _ => None,
        };
        self.ready()?;
        self.forget(part)
    }
}

#[expect(unsafe_code, reason = "what the hardware walks, it walks behind this")]
// SAFETY: by the contract of `Hardware`.
unsafe impl<H: Hardware, const ASIDS: usize> Walks<H::Format> for Mmu<H, ASIDS> {}

#[expect(unsafe_code, reason = "what the hardware confirmed, this passes on")]
// SAFETY:
// 1. `enable` returns `Ok` only after `bring_up`, in which every ASID was confirmed to start at the
//    parking table and then everything was confirmed to be invalidated, with the MMU disabled so
//    that nothing new came in;
// 2. each error of it leads through `switch(false)`;
// 3. `replace_root` returns `Ok` only when `point` did, which waits for the hardware, and does not
//    believe a confirmation that may belong to an earlier request;
// 4. `invalidate_all` does what `invalidate` does for the largest extent;
// 5. `switch(false)` returns `Ok` only when the hardware is read to be disabled;
// 6. `EXISTS` is what the trait says.
unsafe impl<H: Hardware, const ASIDS: usize> MmuControl for Mmu<H, ASIDS> {
    fn enable(&mut self) -> Result<(), MmuError> {
        self.enabled = false;
        self.roots = Roots::new();
        let result = self.bring_up().and_then(|()| self.hardware.switch(true));
        match result {
            Ok(()) => self.enabled = true,
            // That it failed is known already; this one's own failure would add nothing.
            Err(_) => {
                let _ = self.hardware.switch(false);
            }
        }
        result
    }

    fn disable(&mut self) -> Result<(), MmuError> {
        self.enabled = false;
        self.hardware.switch(false)
    }

    fn set_root(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError> {
        self.replace_root(asid, Some(root))
    }

    fn park(&mut self, asid: Asid) -> Result<(), MmuError> {
        self.replace_root(asid, None)
    }

    fn announce(&mut self) -> Result<(), MmuError> {
        self.ready()?;
        let result = self.hardware.announce();
        self.invalidation_in_doubt |= result.is_err();
        result
    }

    fn invalidate_all(&mut self) -> Result<(), MmuError> {
        self.ready()?;
        self.forget(None)
    }

    fn next_fault(&mut self, from: &mut u32) -> Result<Option<Fault>, MmuError> {
        self.hardware.next_fault(from)
    }
}

impl<H, const ASIDS: usize> fmt::Debug for Mmu<H, ASIDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mmu")
            .field("enabled", &self.enabled)
            .field("parking", &self.parking)
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}
