"""The begin and end of a rebuild, which resets everything to a publication. The begin stops the stream, the end lets it run again.

tidemark.spark.rebuild does the work in between. An interrupted rebuild is finished, or taken over by another one, before anything else can
run. The transaction at the end changes only the cells that differ, because MongoDB ends one that takes long.
"""

from __future__ import annotations

from collections.abc import Mapping

from pymongo import DeleteMany, ReplaceOne, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.catalog.rules import Rules
from tidemark.serving import bindings, cells, history, ingestions, ledger, offsets, publications, withdrawals
from tidemark.serving.database import Document, in_transaction
from tidemark.serving.ledger import LEDGER, Category, Fenced, Ledger, Tag, category_document
from tidemark.serving.publications import SERVED, NoPublication, OtherRules, Publication, stamp_published


def begin(database: Database[Document], publication: Publication, code: Rules) -> Ledger:
    """Takes the next generation, so that every stream and every other rebuild is fenced off, and records what is being rebuilt.

    `code` are the code's rules; those in force include the withdrawals, which cannot change until the rebuild ends. Raises OtherRules if
    the publication was not made under the rules in force, NoPublication if it has been dropped.
    """
    number = publication.number

    def transaction(session: ClientSession) -> Ledger:
        # The write makes a concurrent drop of the publication conflict.
        if not database.publication.update_one({"_id": number}, {"$inc": {"rebuilds": 1}}, session=session).matched_count:
            raise NoPublication(f"publication {number} has been dropped: choose another one")
        document = database.state.find_one_and_update(
            {"_id": LEDGER},
            {"$inc": {"generation": 1}, "$set": {"rebuilding": number}},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        # After the write of the ledger: a concurrent change of the rules conflicts with it.
        require_made_under(publication, withdrawals.in_force(database, code, session))
        if publication.adoption:
            ingestions.begin_epoch(database, session, publication.adoption.binding.epoch)
        assert document is not None
        return ledger.from_document(document)

    return in_transaction(database, transaction)


def require_made_under(publication: Publication, rules: Rules) -> None:
    """Raises OtherRules unless the publication was made under these rules. Publication 0, which is empty, has none."""
    if publication.rules not in (rules.fingerprint(), None):
        raise OtherRules(
            f"publication {publication.number} was made under rules {publication.rules}, but rules {rules.fingerprint()} are in force: the "
            "reports would mix both. Restore the former rules, or run the nightly batch with mode=full"
        )


def tag(own: Ledger) -> Tag:
    """The tag of the documents that a rebuild writes."""
    return Tag(own.generation, 0)


def end(database: Database[Document], own: Ledger, publication: Publication, categories: Mapping[int, Category]) -> None:
    """Serves the publication and resets the ledger to its mark, in one transaction; all commits before it are forgotten. Adopts the log
    that the publication was made for.

    Raises Fenced if another rebuild has taken over.
    """
    number = publication.number
    newest = {"newest_event": publication.newest_event, "newest_observation": publication.newest_observation}
    # Read after the begin, since which no micro-batch can commit.
    names = {category: of.name for category, of in categories.items()}
    changes = cells.changes(database, publications.cells(database, number), names)
    adopted: Document = {}
    if of := publication.adoption:
        adopted = {"log": bindings.to_document(of.binding), "witness": bindings.witness_documents(of.witness)}

    def transaction(session: ClientSession) -> None:
        moved = database.state.update_one(
            {"_id": LEDGER, "generation": own.generation, "rebuilding": number},
            {
                "$set": {
                    "offsets": offsets.to_documents(publication.mark),
                    "committed": {str(own.generation): tag(own).batch},
                    "rebuilding": None,
                    **adopted,
                    **newest,
                },
                "$inc": {"rebuilds": 1},
                "$unset": {"renaming": True},
            },
            session=session,
        )
        if not moved.matched_count:
            raise Fenced(f"the rebuild of publication {number}, generation {own.generation}, has been superseded by another rebuild")
        if of and of.binding.epoch > own.binding.epoch:
            history.invalidate(database, session)  # days may have been computed from events that are lost
        database.state.update_one({"_id": SERVED}, {"$set": {"publication": number}}, session=session)
        cells.apply(database, session, changes)
        _replace_categories(database, session, categories)
        if number:
            stamp_published(database, session, number)

    in_transaction(database, transaction)


def _replace_categories(database: Database[Document], session: ClientSession, categories: Mapping[int, Category]) -> None:
    """Makes these all categories there are. Those that are the same are not touched."""
    there = {one["_id"]: one for one in database.category.find(session=session)}
    documents = [category_document(*one) for one in categories.items()]
    changes: list[DeleteMany | ReplaceOne[Document]] = [
        ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in documents if there.get(one["_id"]) != one
    ]
    if gone := [number for number in there if number not in categories]:
        changes.append(DeleteMany({"_id": {"$in": gone}}))
    if changes:
        database.category.bulk_write(changes, ordered=False, session=session)
