"""Word lists. Everyday words in alphabetical disorder; a tenth of each list is held out (see names.py)."""


def _split(text):
    return [" ".join(part.split()) for part in text.split(",")]


COLOURS = _split(
    """red, blue, green, yellow, orange, purple, pink, brown, black, white, grey, silver, gold, turquoise, violet, teal,
    crimson, indigo, beige, lavender, olive green, dark blue, light green, pale yellow, copper, ivory, scarlet, navy,
    mint green, sky blue, coral, maroon, amber, cream, charcoal, cherry red, sand, rust, plum, bronze"""
)
FOODS = _split(
    """apples, bread, cheese, tomatoes, rice, pasta, soup, pancakes, dumplings, noodles, potatoes, carrots, mushrooms, pizza,
    salad, olives, honey, eggs, butter, milk, yoghurt, beans, lentils, onions, garlic, pears, plums, cherries, grapes,
    oranges, lemons, bananas, strawberries, blueberries, peaches, melon, chocolate, biscuits, waffles, porridge, spinach,
    cabbage, pumpkin, corn, peas, beetroot, cucumber, peppers, chickpeas, tofu, salmon, tuna, shrimp, chicken, sausages,
    ham, curry, ramen, sushi, tacos, risotto, lasagne, omelette, toast, jam, nuts, almonds, walnuts, raisins, figs, dates,
    apricots, mangoes, pineapple, coconut, ginger, cinnamon buns, apple pie, carrot cake, ice cream, cheesecake, muffins,
    croissants, pretzels, popcorn, crackers, flour, sugar, salt, oats, radishes, leeks, celery, turnips, kale, basil,
    parsley, mint, mustard, vinegar, oil, gnocchi, falafel, hummus, pesto, couscous, kiwis, raspberries, dark bread"""
)
DRINKS = _split(
    """tea, coffee, cocoa, apple juice, lemonade, water, milk, green tea, mint tea, orange juice, ginger tea, black coffee,
    hot chocolate, cider, iced tea, grape juice, tomato juice, oat milk, sparkling water, elderflower juice, chai, cherry
    juice, barley tea, malt beer, carrot juice, rose tea, buttermilk, peppermint tea"""
)
FRUITS = _split(
    "apple, pear, plum, cherry, grape, orange, lemon, banana, strawberry, blueberry, peach, melon, apricot, mango,"
    " kiwi, fig"
)
ANIMALS = _split(
    """fox, owl, bear, wolf, hare, otter, badger, hedgehog, squirrel, deer, beaver, mole, heron, crow, raven, swan, goose,
    duck, frog, toad, turtle, snail, whale, dolphin, seal, crab, octopus, penguin, lion, tiger, elephant, giraffe, zebra,
    monkey, camel, goat, sheep, donkey, horse, cow, pig, rooster, mouse, rat, bat, bee, ant, spider, butterfly, moth,
    sparrow, robin, eagle, falcon, parrot, peacock, stork, lynx, moose, weasel, lizard, snake, whale, shark, salmon, kitten,
    puppy, lamb, foal, beetle, cricket, firefly, magpie, seagull, panda, koala, kangaroo, llama, walrus, raccoon"""
)
PETS = _split(
    """dog, cat, rabbit, hamster, parrot, turtle, horse, pony, goldfish, lizard, mouse, goat, hen, canary, ferret, snake,
    guinea pig, duck, puppy, kitten, donkey, gecko, frog, budgie, snail, rat, hedgehog, owl"""
)
NAMED_THINGS = _split(
    """boat, ship, robot, car, bicycle, house, garden, guitar, teddy bear, doll, band, shop, company, project, school,
    street, village, farm, kite, plant, cactus, computer, spaceship, castle, island, football team, book, song, cafe,
    choir, train, dragon, telescope, balloon, river, mountain, violin, lighthouse, tent, caravan, scooter, blog, recipe"""
)
RELATIONS_F = _split("sister, mother, daughter, aunt, grandmother, girlfriend, wife, niece, mum, stepmother, godmother")
RELATIONS_M = _split("brother, father, son, uncle, grandfather, boyfriend, husband, nephew, dad, stepfather, godfather")
RELATIONS_X = _split(
    """best friend, friend, cousin, neighbour, teacher, boss, colleague, doctor, dentist, flatmate, coach, landlord, baker,
    partner, piano teacher, hairdresser, pen friend, gardener, roommate, trainer, vet, lawyer, student, captain"""
)
JOBS = _split(
    """baker, teacher, nurse, doctor, carpenter, gardener, painter, writer, cook, farmer, pilot, sailor, singer, dancer,
    plumber, electrician, programmer, librarian, tailor, judge, lawyer, florist, potter, waiter, mechanic, firefighter,
    architect, engineer, dentist, vet, actor, photographer, musician, journalist, translator, postman, bus driver,
    train driver, hairdresser, butcher, shoemaker, beekeeper, fisherman, shepherd, blacksmith, watchmaker, cleaner,
    designer, chemist, astronomer, geologist, biologist, historian, surgeon, pharmacist, cashier, guide, diver, clown,
    roofer, glazier, welder, locksmith, optician, weaver, brewer, miller, lifeguard, ranger, editor, banker, tutor"""
)
THINGS = _split(
    """key, umbrella, book, lamp, cup, hat, scarf, coat, bag, wallet, phone, notebook, pencil, map, ring, watch, camera,
    ball, kite, drum, flute, basket, bottle, blanket, candle, mirror, hammer, rope, ladder, spoon, knife, teapot, jar, box,
    letter, ticket, passport, glove, boot, shoe, sweater, belt, torch, radio, clock, compass, coin, button, needle, thread,
    brush, bucket, broom, pillow, chair, painting, puzzle, magnet, whistle, bell, feather, shell, stone, marble, toy train,
    tent, backpack, helmet, charger, screwdriver, tape, sketchbook, paintbrush, flowerpot, vase, doll"""
)
PLACES_IN = _split(
    """in the kitchen, in the garden, in the drawer, under the bed, on the shelf, behind the door, in the cupboard, on the
    table, in the attic, in the cellar, under the stairs, in the car, on the balcony, in the hall, beside the window, in
    the blue box, in my bag, under the mat, on the roof, in the garage, behind the sofa, in the bathroom, next to the oven,
    in the shed, on the piano, in the fridge, under the tree, in the red jar, behind the clock, in the old suitcase, on the
    windowsill, in the office, beside the bed, in the wardrobe, under the carpet, in the top drawer, inside the teapot,
    behind the books, in the laundry basket, on the desk, in the coat pocket, under the flowerpot, in the boat, at the
    station, near the well, on the bench, behind the mirror, in the green tin, under the bridge, in the barn"""
)
PLACES = _split(
    """market, library, park, beach, station, museum, bakery, cinema, zoo, harbour, theatre, school, lake, forest, castle,
    airport, bridge, church, garden, bookshop, cafe, swimming pool, stadium, gallery, farm, post office, hospital, river,
    town hall, playground, mountain, island, lighthouse, mill, old tower, bus stop, concert hall, ice rink, pharmacy"""
)
ACTIVITIES = _split(
    """swim in the lake, paint the fence, bake a cake, visit my aunt, clean the kitchen, go to the dentist, plant tomatoes,
    read a book, play chess, go hiking, fix my bicycle, learn to juggle, write a letter, go dancing, watch a film, cook
    soup, go fishing, buy new shoes, sort my books, play football, take the train to the sea, sing in the choir, repair the
    roof, visit the museum, wash the car, sew a curtain, build a birdhouse, ride a horse, pick apples, climb the old tower,
    go to the market, call my brother, water the plants, play the piano, make jam, go to bed early, meet an old friend,
    fly a kite, go skating, draw a map, pack my suitcase, cut my hair, go camping, collect shells, go sailing, study
    Spanish, practise the violin, feed the ducks, tidy the attic, bake bread, run ten kilometres, plant a tree, visit the
    zoo, learn a poem, knit a scarf, mend a chair, paint my room, go to the theatre, throw a party, sell my old car"""
)
CATEGORIES = {
    "colour": COLOURS,
    "food": FOODS,
    "drink": DRINKS,
    "animal": ANIMALS,
    "season": _split("spring, summer, autumn, winter"),
    "day of the week": _split("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "month": _split("January, February, March, April, May, June, July, August, September, October, November, December"),
    "sport": _split(
        """football, tennis, swimming, running, chess, rowing, skiing, climbing, cycling, judo, hockey, golf, volleyball,
        basketball, fencing, sailing, badminton, rugby, cricket, archery, skating, surfing, yoga, boxing, table tennis"""
    ),
    "instrument": _split(
        """piano, guitar, violin, flute, drums, cello, trumpet, harp, clarinet, organ, accordion, saxophone, banjo, tuba,
        oboe, harmonica, ukulele, viola, double bass, bassoon"""
    ),
    "flower": _split(
        """rose, tulip, daisy, lily, sunflower, poppy, violet, orchid, iris, daffodil, lavender, peony, snowdrop, dahlia,
        marigold, bluebell, carnation, crocus, jasmine, magnolia"""
    ),
    "fruit": FRUITS,
    "subject": _split(
        "history, maths, music, biology, art, physics, geography, chemistry, Latin, French, English, drawing,"
        " philosophy"
    ),
    "hobby": _split(
        """knitting, painting, gardening, reading, photography, cooking, birdwatching, pottery, origami, fishing, hiking,
        stamp collecting, juggling, baking, woodwork, singing, dancing, stargazing, sewing, board games, calligraphy"""
    ),
}
DAYS = CATEGORIES["day of the week"]
MONTHS = CATEGORIES["month"]
SHOPPING = FOODS + DRINKS
PACKING = THINGS
