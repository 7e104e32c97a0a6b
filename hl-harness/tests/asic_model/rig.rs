//! A device with an MMU that is programmed and whose tables are written by hand.

use std::sync::Arc;

use hl_harness::asic::{
    AccessError, Asic, AsicConfig, AsicKind, Fault, FaultReason, HbmStacks, InitiatorId,
    InitiatorMode,
};
use hl_harness::host::{FRAME_SIZE, Host, HostConfig, KernelBlock};
use hl_harness::log::EventLog;
use mmu_core::{BusAddr, DeviceAddr};

/// Register blocks.
pub(crate) const PMMU: u32 = 0x4D0_0000;
pub(crate) const HMMU0: u32 = 0x408_0000;

/// Which MMU a rig is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Goya,
    Gaudi,
    Pmmu,
    Hmmu(HbmStacks),
}

pub(crate) struct Rig {
    pub(crate) kind: Kind,
    pub(crate) log: EventLog,
    pub(crate) host: Arc<Host>,
    pub(crate) asic: Arc<Asic>,
    /// User ASID 1, ASID 0 translated, untranslated.
    pub(crate) user: InitiatorId,
    pub(crate) privileged: InitiatorId,
    pub(crate) bypass: InitiatorId,
    /// Tables of the PMMU; elsewhere device memory is used.
    tables: KernelBlock,
}

/// Tables per address space: enough for one of each hop and one to spare.
const TABLES: u64 = 8;

impl Rig {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with(kind, |config| config)
    }

    /// A device with both roots latched and the MMU enabled. All tables are empty.
    pub(crate) fn with(kind: Kind, change: impl FnOnce(AsicConfig) -> AsicConfig) -> Self {
        let log = EventLog::recording();
        let host = Host::new(HostConfig::with_frames(16384), log.clone()).unwrap();
        let tables = host.kernel_contiguous(16, 1, "tables").unwrap();
        let mut config = AsicConfig::new(match kind {
            Kind::Goya => AsicKind::Goya,
            Kind::Gaudi => AsicKind::Gaudi,
            Kind::Pmmu | Kind::Hmmu(_) => AsicKind::Gaudi2,
        });
        if let Kind::Hmmu(stacks) = kind {
            config.hbm_stacks = stacks;
        }
        let asic = Asic::new(change(config), host.clone(), log.clone());
        let rig = Self {
            kind,
            user: asic.add_initiator("user", InitiatorMode::User(1)),
            privileged: asic.add_initiator("privileged", InitiatorMode::Privileged),
            bypass: asic.add_initiator("bypass", InitiatorMode::Bypass),
            log,
            host,
            asic,
            tables,
        };
        rig.bring_up();
        rig
    }

    /// What a driver does after power-on.
    pub(crate) fn bring_up(&self) {
        for asid in 0..2 {
            for hop in 0..TABLES {
                self.clear_table(self.table(asid, hop));
            }
            self.set_root(asid, self.table(asid, 0));
        }
        match self.kind {
            Kind::Goya => self.asic.write_register(0x48000C, 1),
            Kind::Gaudi => self.asic.write_register(0xC1100C, 1),
            Kind::Pmmu => self.asic.write_register(PMMU + 0xC, 1),
            Kind::Hmmu(_) => self.asic.write_register(HMMU0 + 0xC, 1),
        }
    }

    pub(crate) fn set_root(&self, asid: u32, root: u64) {
        let (low, high) = ((root >> 12) as u32, (root >> 44) as u32);
        let write = |offset, value| self.asic.write_register(offset, value);
        let stlb = match self.kind {
            Kind::Goya => {
                write(0x490004, low);
                write(0x490008, high);
                write(0x490000, 0x8000_0000 | asid);
                assert_eq!(self.asic.read_register(0x490000) >> 31, 0);
                return;
            }
            Kind::Gaudi => {
                write(0xC12004, asid);
                write(0xC12008, low);
                write(0xC1200C, high);
                write(0xC12000, 0x8000_0000);
                assert_eq!(self.asic.read_register(0xC12000), 0);
                return;
            }
            Kind::Pmmu => PMMU + 0x1000,
            Kind::Hmmu(_) => HMMU0 + 0x1000,
        };
        write(stlb + 4, asid);
        write(stlb + 8, low);
        write(stlb + 0xC, high);
        write(stlb, 0x8000_0000);
        assert_eq!(self.asic.read_register(stlb), 0);
    }

    /// The address of the table an address space uses at a hop.
    pub(crate) fn table(&self, asid: u32, hop: u64) -> u64 {
        let number = u64::from(asid) * TABLES + hop;
        match self.kind {
            Kind::Goya | Kind::Gaudi => 0x1000_0000 + number * 0x1000,
            Kind::Hmmu(HbmStacks::Six) => 0x1001_0000_2FC0_0000 + number * 0x1000,
            Kind::Hmmu(HbmStacks::Five) => 0x1001_0000_27C0_0000 + number * 0x1000,
            Kind::Pmmu => {
                let frame = self.tables.frames()[number as usize];
                self.host.bus_address(frame).get()
            }
        }
    }

    /// Stores an entry, visible at once.
    pub(crate) fn put(&self, table: u64, index: u64, entry: u64) {
        let address = BusAddr::new(table + 8 * index);
        if self.kind == Kind::Pmmu {
            self.host.store_u64(address, entry).unwrap();
        } else {
            assert!(self.asic.poke(address, &entry.to_le_bytes()));
        }
    }

    pub(crate) fn clear_table(&self, table: u64) {
        for index in 0..512 {
            self.put(table, index, 0);
        }
    }

    /// Links the tables of `asid` along `indices` and stores `leaf` at the last.
    pub(crate) fn path(&self, asid: u32, indices: &[u64], leaf: u64) {
        let (last, above) = indices.split_last().unwrap();
        for (hop, index) in (0..).zip(above) {
            self.put(self.table(asid, hop), *index, self.table(asid, hop + 1) | 1);
        }
        self.put(self.table(asid, above.len() as u64), *last, leaf);
    }

    /// One kernel page holding `byte` everywhere, and what a leaf entry for it holds.
    pub(crate) fn page(&self, byte: u8) -> (KernelBlock, u64) {
        let block = self.host.kernel_block(1, "page").unwrap();
        block.view().unwrap().write(0, &[byte; FRAME_SIZE]).unwrap();
        let bus = self.host.bus_address(block.frames()[0]).get();
        let leaf = (bus + self.asic.host_offset()) | 0x801;
        (block, leaf)
    }

    pub(crate) fn read_byte(
        &self,
        initiator: InitiatorId,
        address: u64,
    ) -> Result<u8, AccessError> {
        let mut byte = [0];
        self.asic
            .read(initiator, DeviceAddr::new(address), &mut byte)?;
        Ok(byte[0])
    }

    /// The fault that reading a byte meets.
    pub(crate) fn fault(&self, initiator: InitiatorId, address: u64) -> Fault {
        let error = self.read_byte(initiator, address).unwrap_err();
        assert_eq!(error.bytes_done, 0);
        error.fault().expect("a fault, not a lost device")
    }

    pub(crate) fn reason(&self, initiator: InitiatorId, address: u64) -> FaultReason {
        self.fault(initiator, address).reason
    }

    /// Invalidates everything by the protocol of the kind; the last word is the polled register.
    pub(crate) fn invalidate_all(&self) -> u32 {
        let (write, read) = (
            |offset, value| self.asic.write_register(offset, value),
            |offset| self.asic.read_register(offset),
        );
        match self.kind {
            Kind::Goya => {
                write(0x490034, 1);
                read(0x490034)
            }
            Kind::Gaudi => {
                let next = self.log.count(hl_harness::log::EventKind::InvalidateBegin) + 1;
                write(0xC1203C, 3);
                write(0xC12010, (next % 256) as u32);
                write(0xC1203C, 2);
                let state = read(0xC1203C);
                write(0xC12048, 0);
                state
            }
            Kind::Pmmu => {
                write(PMMU + 0x1034, 1);
                read(PMMU + 0x1034) & 1
            }
            Kind::Hmmu(_) => {
                write(HMMU0 + 0x1034, 1);
                read(HMMU0 + 0x1034) & 1
            }
        }
    }
}
