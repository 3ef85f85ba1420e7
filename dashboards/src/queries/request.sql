-- One request, with everything that is recorded about it.
SELECT * FROM weir.requests WHERE $scope AND request_id = {request_id:UUID} LIMIT 1
