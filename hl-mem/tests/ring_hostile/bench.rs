//! A block that records what an end does to it, and asserts that its side may do that.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use hl_mem::ring::{BlockIndices, BlockLayout, BlockRead, BlockWrite, Consumer, Producer};

use crate::RECORD;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    LoadIndex,
    StoreIndex(u32),
    Read,
    Write,
}

/// The access that was told to fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault;

/// A block in plain bytes, with a record of what one side did to it.
pub(crate) struct Block {
    pub(crate) layout: BlockLayout,
    pub(crate) bytes: Vec<u8>,
    accesses: Vec<Access>,
    /// How many accesses go well before one fails.
    faults_after: Option<usize>,
    /// What loads of the peer's index return, before the value in the block does.
    peer_script: VecDeque<u32>,
}

impl Block {
    fn index(&mut self, offset: u64) -> &mut [u8; 4] {
        self.bytes[offset as usize..].first_chunk_mut().unwrap()
    }

    fn enter(&mut self, access: Access) -> Result<(), Fault> {
        match &mut self.faults_after {
            Some(0) => {
                self.faults_after = None;
                return Err(Fault);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.accesses.push(access);
        Ok(())
    }

    /// The bytes of a data access, which must be inside the data and cover whole records.
    fn data(&mut self, offset: u64, len: usize) -> &mut [u8] {
        let from_data = offset.checked_sub(self.layout.data_offset()).unwrap() as usize;
        assert!(len > 0 && len.is_multiple_of(RECORD) && from_data.is_multiple_of(RECORD));
        let data = self.layout.data_offset() as usize..;
        &mut self.bytes[data][..self.layout.data_len() as usize][from_data..][..len]
    }
}

/// The device's view.
pub(crate) struct Device;
/// The user process's view, which has no way to write data, as a read-only mapping has none.
pub(crate) struct User;

/// One side's view; `own` and `peer` are the offsets of the indices.
pub(crate) struct Side<Role> {
    block: Rc<RefCell<Block>>,
    own: u64,
    peer: u64,
    attached: bool,
    _role: Role,
}

impl<Role> BlockIndices for Side<Role> {
    type Error = Fault;

    fn load_index(&mut self, offset: u64) -> Result<u32, Fault> {
        let mut block = self.block.borrow_mut();
        block.enter(Access::LoadIndex)?;
        if offset == self.own {
            assert!(!self.attached, "an end read its own index a second time");
            self.attached = true;
        } else {
            assert_eq!(offset, self.peer);
            if let Some(index) = block.peer_script.pop_front() {
                return Ok(index);
            }
        }
        Ok(u32::from_le_bytes(*block.index(offset)))
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), Fault> {
        assert_eq!(offset, self.own, "an end stored to its peer's index");
        let mut block = self.block.borrow_mut();
        block.enter(Access::StoreIndex(index))?;
        *block.index(offset) = index.to_le_bytes();
        Ok(())
    }
}

impl BlockWrite for Side<Device> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut block = self.block.borrow_mut();
        block.enter(Access::Write)?;
        block.data(offset, bytes.len()).copy_from_slice(bytes);
        Ok(())
    }
}

impl BlockRead for Side<User> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let mut block = self.block.borrow_mut();
        block.enter(Access::Read)?;
        bytes.copy_from_slice(block.data(offset, bytes.len()));
        Ok(())
    }
}

/// The test's hand on the block, outside both ends.
#[derive(Clone)]
pub(crate) struct Bench(pub(crate) Rc<RefCell<Block>>);

impl Bench {
    pub(crate) fn new(capacity: u32, first_index: u32) -> Self {
        let layout = BlockLayout::new(4096, RECORD as u32, capacity).unwrap();
        let bench = Self(Rc::new(RefCell::new(Block {
            layout,
            bytes: vec![0; layout.block_len() as usize],
            accesses: Vec::new(),
            faults_after: None,
            peer_script: VecDeque::new(),
        })));
        bench.set_producer_index(first_index);
        bench.set_consumer_index(first_index);
        bench
    }

    pub(crate) fn layout(&self) -> BlockLayout {
        self.0.borrow().layout
    }

    pub(crate) fn device(&self) -> Side<Device> {
        Side {
            block: Rc::clone(&self.0),
            own: self.layout().producer_index_offset(),
            peer: self.layout().consumer_index_offset(),
            attached: false,
            _role: Device,
        }
    }

    pub(crate) fn producer(&self) -> Producer<Side<Device>> {
        Producer::attach(self.device(), self.layout()).unwrap()
    }

    pub(crate) fn user(&self) -> Side<User> {
        Side {
            block: Rc::clone(&self.0),
            own: self.layout().consumer_index_offset(),
            peer: self.layout().producer_index_offset(),
            attached: false,
            _role: User,
        }
    }

    pub(crate) fn consumer(&self) -> Consumer<Side<User>> {
        Consumer::attach(self.user(), self.layout()).unwrap()
    }

    pub(crate) fn set_producer_index(&self, index: u32) {
        let offset = self.layout().producer_index_offset();
        *self.0.borrow_mut().index(offset) = index.to_le_bytes();
    }

    pub(crate) fn set_consumer_index(&self, index: u32) {
        let offset = self.layout().consumer_index_offset();
        *self.0.borrow_mut().index(offset) = index.to_le_bytes();
    }

    pub(crate) fn script(&self, indices: &[u32]) {
        self.0.borrow_mut().peer_script = indices.iter().copied().collect();
    }

    pub(crate) fn fault_after(&self, accesses: Option<usize>) {
        self.0.borrow_mut().faults_after = accesses;
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    pub(crate) fn accesses(&self) -> Vec<Access> {
        std::mem::take(&mut self.0.borrow_mut().accesses)
    }
}
