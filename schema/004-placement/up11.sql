-- What runs is charged to its silo from here on.
UPDATE sled_reservation SET silo_id = (
    SELECT p.silo_id FROM instance i JOIN project p ON p.id = i.project_id
    WHERE i.id = sled_reservation.instance_id)
WHERE silo_id IS NULL;
