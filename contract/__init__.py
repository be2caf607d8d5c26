"""What crosses the wire between stores and the centre: topics, messages, configuration, signatures.

Every package of Storefleet may import this one; it imports none of them. The classes here are the
only source: the JSON Schema and AsyncAPI documents in ``contract/schemas/`` are generated from them
(``python -m contract.schema``) and a test fails when they are stale. Within ``v1`` a field is never
removed or retyped.
"""
