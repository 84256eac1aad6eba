//! Finding orders.

use super::super::error::JournalError;
use super::super::reader::Reader;
use super::super::seal::{Place, Seal};
use super::super::types::WorkOrderId;
use super::{LinkState, LinkTask, ORDERS_FOUND_MAX, StoredOrder, patients};
use crate::clinical::{OrderStatus, OrderedPatient, Phi, WorkOrder};
use rusqlite::{Connection, Row};

/// Columns of a stored order.
const COLUMNS: &str = "w.id, w.source, w.status, w.placed_ms, w.changed_ms, w.json, w.on_hold, w.entry";

/// What modalities are told of.
const ON_WORKLIST: &str = "w.imaging = 1 AND w.status <= 1 AND w.on_hold = 0";

/// What an order is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Any name of its specimen.
    Specimen,
    /// Its placer or filler order number.
    Number,
    /// The study of one of its requested procedures.
    Study,
    /// The accession number of its imaging.
    Accession,
}

impl By {
    pub(super) fn hash(self, seal: &Seal, id: &Phi) -> i64 {
        let domain = match self {
            By::Specimen => "work order specimen",
            By::Number => "work order number",
            By::Study => "work order study",
            By::Accession => "work order accession",
        };
        seal.hash(domain, &[id.expose().as_bytes()])
    }

    fn fits(self, order: &WorkOrder, id: &Phi) -> bool {
        match self {
            By::Specimen => order.specimen_ids().any(|own| own == id),
            By::Accession => order.imaging.as_ref().is_some_and(|imaging| imaging.accession_number == *id),
            By::Number => order.placer_order_number.id == *id || order.filler_order_number.id == *id,
            By::Study => {
                let mut procedures = order.imaging.iter().flat_map(|imaging| &imaging.procedures);
                procedures.any(|procedure| procedure.study_instance_uid == id.expose())
            }
        }
    }
}

impl Reader {
    /// Every order on a specimen that is still kept, whatever its status, oldest first. The last [`ORDERS_FOUND_MAX`].
    pub fn work_orders_on(&self, specimen: &Phi) -> Result<Vec<StoredOrder>, JournalError> {
        by(&self.conn, &self.seal, By::Specimen, specimen)
    }

    /// The orders on a specimen that wait for results, oldest first: what an instrument that asks is told.
    pub fn open_work_orders_on(&self, specimen: &Phi) -> Result<Vec<StoredOrder>, JournalError> {
        let mut found = self.work_orders_on(specimen)?;
        found.retain(|stored| stored.status.is_open());
        Ok(found)
    }

    /// Orders under a placer or filler order number, whatever their status, oldest first. The last [`ORDERS_FOUND_MAX`].
    pub fn work_orders_numbered(&self, number: &Phi) -> Result<Vec<StoredOrder>, JournalError> {
        by(&self.conn, &self.seal, By::Number, number)
    }

    /// The order with this number of our own.
    pub fn work_order(&self, id: WorkOrderId) -> Result<StoredOrder, JournalError> {
        by_id(&self.conn, &self.seal, id)
    }

    /// What a link is to tell its instrument, at most `limit` behind the first `skip`: what was taken back, then what is
    /// still to be done, oldest order first. A task stays until it is marked with
    /// [`super::super::Journal::mark_order`].
    pub fn link_tasks(&self, link: &str, skip: usize, limit: usize) -> Result<Vec<LinkTask>, JournalError> {
        let sql = format!(
            "SELECT {COLUMNS}, l.state = 2 FROM work_order_link l JOIN work_order w ON w.id = l.work_order
             WHERE l.link = ?1 AND (l.state = 2 OR l.state = 0 AND w.status <= 1)
             ORDER BY l.state = 0, l.work_order LIMIT ?2 OFFSET ?3"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query((link, limit as i64, skip as i64))?;
        let mut tasks = Vec::new();
        while let Some(row) = rows.next()? {
            let is_cancellation = row.get(8)?;
            tasks.extend(open(&self.conn, &self.seal, row)?.map(|order| LinkTask { order, is_cancellation }));
        }
        Ok(tasks)
    }

    /// Where an order stands on each link it is for, by name.
    pub fn work_order_links(&self, id: WorkOrderId) -> Result<Vec<(String, LinkState)>, JournalError> {
        let sql = "SELECT link, state FROM work_order_link WHERE work_order = ?1 ORDER BY link";
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query([id])?;
        let mut links = Vec::new();
        while let Some(row) = rows.next()? {
            let state = usize::try_from(row.get::<_, i64>(1)?).ok().and_then(|at| LinkState::ALL.get(at));
            links.push((row.get(0)?, *state.ok_or(JournalError::Damaged)?));
        }
        Ok(links)
    }

    /// Open orders for a link, oldest first, at most `limit`, whether it was told of them or not: what an instrument
    /// that asks for everything is told.
    pub fn open_work_orders_for(&self, link: &str, limit: usize) -> Result<Vec<StoredOrder>, JournalError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM work_order_link l JOIN work_order w ON w.id = l.work_order
             WHERE l.link = ?1 AND l.state IN (0, 1) AND w.status <= 1 ORDER BY w.id LIMIT ?2"
        );
        self.list(&sql, (link, limit as i64))
    }

    /// The orders that came last, newest first, at most `limit`; only open ones when `open_only`.
    pub fn work_orders(&self, open_only: bool, limit: usize) -> Result<Vec<StoredOrder>, JournalError> {
        let wanted = if open_only { "WHERE w.status <= 1" } else { "" };
        self.list(&format!("SELECT {COLUMNS} FROM work_order w {wanted} ORDER BY w.id DESC LIMIT ?1"), [limit as i64])
    }

    /// Open orders of a source behind `after`, oldest first, at most `limit`, those on hold too.
    pub fn open_work_orders_from(
        &self,
        source: &str,
        after: Option<WorkOrderId>,
        limit: usize,
    ) -> Result<Vec<WorkOrderId>, JournalError> {
        let sql = "SELECT id FROM work_order WHERE status <= 1 AND id > ?1 AND source = ?2 ORDER BY id LIMIT ?3";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map((after.unwrap_or(WorkOrderId(0)), source, limit as i64), |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Calls `each` with every open order for imaging that is not on hold, oldest first.
    pub fn for_each_imaging_order(&self, mut each: impl FnMut(StoredOrder)) -> Result<(), JournalError> {
        let sql = format!("SELECT {COLUMNS} FROM work_order w WHERE {ON_WORKLIST} ORDER BY w.id");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            open(&self.conn, &self.seal, row)?.into_iter().for_each(&mut each);
        }
        Ok(())
    }

    /// An order for imaging while it is open and not on hold, with the keys of its patient as [`super::super::OrderChanges`] names them.
    pub fn open_imaging_order(&self, id: WorkOrderId) -> Result<Option<StoredOrder>, JournalError> {
        let sql = format!("SELECT {COLUMNS} FROM work_order w WHERE w.id = ?1 AND {ON_WORKLIST}");
        Ok(self.list(&sql, [id])?.pop())
    }

    /// Imaging orders with a requested procedure of this study, whatever their status, oldest first.
    pub fn imaging_orders_of(&self, study_instance_uid: &str) -> Result<Vec<StoredOrder>, JournalError> {
        by(&self.conn, &self.seal, By::Study, &Phi::new(study_instance_uid))
    }

    /// Imaging orders under this accession number, whatever their status, oldest first.
    pub fn imaging_orders_under(&self, accession_number: &Phi) -> Result<Vec<StoredOrder>, JournalError> {
        by(&self.conn, &self.seal, By::Accession, accession_number)
    }

    /// The scheduled steps of an order that were done: place of the procedure, and of the step in it.
    pub fn steps_done(&self, id: WorkOrderId) -> Result<Vec<(usize, usize)>, JournalError> {
        steps_done(&self.conn, id)
    }

    /// What [`super::super::OrderChanges`] calls a patient id.
    pub fn patient_key(&self, id: &Phi) -> i64 {
        patients::hash(&self.seal, id)
    }

    /// The person this patient id stands for now, as the EHR last described them; merges are followed. `None` when the
    /// EHR never spoke of it.
    pub fn patient(&self, id: &Phi) -> Result<Option<OrderedPatient>, JournalError> {
        patients::current(&self.conn, &self.seal, id)
    }

    /// A number that grows with every message that may change an order or a patient.
    pub fn orders_as_of(&self) -> Result<i64, JournalError> {
        as_of(&self.conn)
    }

    /// How many orders there are in each status, in the order of [`OrderStatus::ALL`].
    pub fn work_order_counts(&self) -> Result<[i64; OrderStatus::ALL.len()], JournalError> {
        let mut counts = [0; OrderStatus::ALL.len()];
        let mut statement = self.conn.prepare_cached("SELECT status, count(*) FROM work_order GROUP BY status")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let at = usize::try_from(row.get::<_, i64>(0)?).unwrap_or(usize::MAX);
            if let Some(count) = counts.get_mut(at) {
                *count = row.get(1)?;
            }
        }
        Ok(counts)
    }

    fn list(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<StoredOrder>, JournalError> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.extend(open(&self.conn, &self.seal, row)?);
        }
        Ok(found)
    }
}

pub(super) fn steps_done(conn: &Connection, id: WorkOrderId) -> Result<Vec<(usize, usize)>, JournalError> {
    let sql = "SELECT procedure, step FROM work_order_step WHERE work_order = ?1 ORDER BY procedure, step";
    let mut statement = conn.prepare_cached(sql)?;
    let place = |row: &Row<'_>| Ok((row.get::<_, u32>(0)? as usize, row.get::<_, u32>(1)? as usize));
    Ok(statement.query_map([id], place)?.collect::<Result<_, _>>()?)
}

pub(super) fn as_of(conn: &Connection) -> Result<i64, JournalError> {
    Ok(conn.prepare_cached("SELECT coalesce(max(entry), 0) FROM answer")?.query_row([], |r| r.get(0))?)
}

pub(super) fn by_id(conn: &Connection, seal: &Seal, id: WorkOrderId) -> Result<StoredOrder, JournalError> {
    let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM work_order w WHERE w.id = ?1"))?;
    let mut rows = statement.query([id])?;
    let row = rows.next()?.ok_or(JournalError::NotFound("order"))?;
    open(conn, seal, row)?.ok_or(JournalError::Damaged)
}

pub(super) fn by(conn: &Connection, seal: &Seal, by: By, id: &Phi) -> Result<Vec<StoredOrder>, JournalError> {
    if id.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM work_order_lookup l JOIN work_order w ON w.id = l.work_order
         WHERE l.hash = ?1 ORDER BY w.id DESC LIMIT ?2"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query((by.hash(seal, id), ORDERS_FOUND_MAX as i64))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.extend(open(conn, seal, row)?.filter(|stored| by.fits(&stored.order, id)));
    }
    // Of more than are looked at, the newest are those that may be open.
    found.reverse();
    Ok(found)
}

/// Opens a row. A damaged one is reported and left out: the results it would have been matched with are then treated as
/// results without an order, and its own message is still there.
fn open(conn: &Connection, seal: &Seal, row: &Row<'_>) -> Result<Option<StoredOrder>, JournalError> {
    let (id, status): (WorkOrderId, i64) = (row.get(0)?, row.get(2)?);
    let status = usize::try_from(status).ok().and_then(|at| OrderStatus::ALL.get(at));
    let plain = seal.open(conn, Place::WorkOrder, id.0, &row.get::<_, Vec<u8>>(5)?);
    let order = plain.and_then(|plain| serde_json::from_slice(&plain).map_err(|_| JournalError::Damaged));
    let (mut order, status): (WorkOrder, OrderStatus) = match (order, status) {
        (Ok(order), Some(status)) => (order, *status),
        (Ok(_), None) | (Err(JournalError::Damaged), _) => {
            tracing::error!(
                event = "stored-damaged",
                order = id.0,
                "a stored order is damaged: ask the EHR to send it again"
            );
            return Ok(None);
        }
        (Err(error), _) => return Err(error),
    };
    let ordered_for = order.patient.patient.id.clone();
    // What was learned under the same number of another authority is about somebody else (I13).
    if let Some(now) = patients::current(conn, seal, &order.patient.patient.id)?
        && order.patient.patient.may_share_authority_with(&now.patient)
    {
        order.patient = now;
    }
    let [placed_ms, changed_ms] = [row.get(3)?, row.get(4)?];
    let (on_hold, entry) = (row.get(6)?, row.get(7)?);
    Ok(Some(StoredOrder { id, source: row.get(1)?, status, on_hold, entry, placed_ms, changed_ms, ordered_for, order }))
}
